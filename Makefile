# Builds, shows and tests hermes-s6.
#
# Who runs me: you, and .ci/run. Rights: yours; packages of Debian that are missing are installed by
# tests/setup/packages, with sudo unless you are root. Needs: Rust with cargo, rustfmt and clippy.
# Installs: nothing else outside target/, except as tests/setup/hermes says.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SUFFIXES:
.PHONY: help build demo test bench lint fmt image test-image

# Where cargo puts a release: .cargo/config.toml names the host's target.
PROGRAM = $(or $(CARGO_TARGET_DIR),target)/$(shell rustc --print host-tuple)/release/hermes-s6

help:
	@echo 'make build         the program, optimized and static: $(PROGRAM)'
	echo 'make demo          show the main job on real s6: four profiles, a killed tree, the same gateways back'
	echo 'make demo REAL=1   the same with the gateways of the real Hermes Agent (240 MB, from PyPI)'
	echo 'make test          all tests, on three versions of s6 and with the real Hermes Agent'
	echo 'make image         a container image, $(TAG): INIT=debian (s6-overlay, base, add), TOOLS=standard'
	echo '                  (minimal, full), BASE_IMAGE=, TAG=, WHEELS=, CA_BUNDLE='
	echo 'make test-image    build that image, and test it in real containers; TESTS=image::stop:: for some of the tests'
	echo 'make bench         measure against the original'
	echo 'make lint          check form: Rust, shell, execline, Dockerfiles'
	echo 'make fmt           format the Rust code'

build:
	cargo build --release --locked

demo: build
	@REAL='$(REAL)' tests/demo '$(PROGRAM)'

# The tests of s6 itself run on every version; the others, once, on the installed one.
test:
	@say() { printf '\n==> %s\n' "$$*"; }
	say 'what the tests need'
	tests/setup/packages s6 execline procps strace
	versions=$$(tests/setup/s6-versions)
	hermes=$$(tests/setup/hermes)
	native=$${versions%%$$'\n'*}
	echo "s6 of Debian: $${versions//$$'\n'/, }; Hermes Agent: $$hermes"
	say 'cargo test --lib'
	cargo test --locked --lib
	say "cargo test --test it, on s6 $$native"
	HERMES_S6_TEST_VERSION=$$native HERMES_S6_TEST_HERMES=$$hermes cargo test --locked --test it
	skipped=
	for version in $$versions; do
	  [ "$$version" != "$$native" ] || continue
	  say "tests/with-s6 $$version cargo test --test it -- s6:: pid1:: status:: lifecycle:: logs:: keep:: health:: look::"
	  code=0
	  tests/with-s6 "$$version" cargo test --locked --test it -- s6:: pid1:: status:: lifecycle:: logs:: keep:: health:: look:: || code=$$?
	  case $$code in
	    0) ;;
	    77) skipped+=" $$version" ;;
	    *) exit "$$code" ;;
	  esac
	done
	say "passed on s6 $${versions//$$'\n'/, }$${skipped:+, except where it could not be had:$$skipped}"

# The certificates that this machine trusts, for networks that have a CA of their own.
CA_BUNDLE = $(wildcard /etc/ssl/certs/ca-certificates.crt)
INIT = debian
TOOLS = standard
TAG = hermes-s6:$(INIT)
export INIT TOOLS BASE_IMAGE WHEELS CA_BUNDLE

image: build
	@tests/setup/image '$(PROGRAM)' '$(TAG)'

# An image with INIT=base needs one with s6-overlay: where none is given, it is made.
test-image: build
	@if [ "$$INIT" = base ] && [ -z "$${BASE_IMAGE:-}" ]; then
	  made=$$(tests/setup/overlay-image later)
	  export BASE_IMAGE=$${made%%$$'\n'*}
	fi
	tests/setup/image '$(PROGRAM)' '$(TAG)'
	case $$INIT in
	  add) HERMES_S6_TEST_ADDITION='$(TAG)' cargo test --locked --test it -- $${TESTS:-image::add::} ;;
	  *)
	    browser=$$(tests/setup/browser)
	    HERMES_S6_TEST_IMAGE='$(TAG)' HERMES_S6_TEST_BROWSER=$$browser cargo test --locked --test it -- $${TESTS:-image::}
	    ;;
	esac

bench:
	@hermes=$$(tests/setup/hermes)
	tests/setup/packages s6 execline
	HERMES_S6_TEST_HERMES=$$hermes cargo bench --locked --bench ratios

lint: build
	@tests/lint '$(PROGRAM)'

fmt:
	cargo fmt
