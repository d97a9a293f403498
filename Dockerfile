# An image of Hermes Agent whose gateways are supervised by hermes-s6 and come back with the container.
#
# Build arguments:
#   INIT          debian: Debian's s6 and a small /init of ours; s6-overlay: its release; base: the base
#                 image brings s6-overlay
#   BASE_IMAGE    Debian 12 or later, or an image made from it
#   HERMES_VERSION  a version that rootfs/all/opt/hermes/lock has a file for
#   TOOLS         standard: what an agent expects in a shell; minimal: nothing of that; full: compilers, Node and
#                 ffmpeg as well
#   PROGRAM       source: cargo builds hermes-s6 in RUST_IMAGE; prebuilt: it is target/image/hermes-s6, and
#                 RUST_IMAGE may be any image
# Target add: no image to run, only what another image of Hermes needs. INIT is left out.
# The classic builder of docker builds each stage in turn, up to the one wanted, also stages that this one
# does not need. So stages succeed with each INIT, and those that fetch more than others come last.

ARG BASE_IMAGE=debian:trixie-slim
ARG RUST_IMAGE=rust:1.95-slim-trixie
ARG HERMES_VERSION=0.19.0


# The program.
FROM ${RUST_IMAGE} AS program
ARG PROGRAM=source
WORKDIR /build
# What cargo reads, and no more: a change of a script compiles nothing anew.
COPY Cargo.toml Cargo.lock askama.toml target/image/hermes-s6* ./
COPY .cargo .cargo
COPY benches benches
COPY tests tests
COPY templates templates
COPY src src
RUN mkdir /out \
  && case $PROGRAM in \
    source) cargo build --release --locked && cp target/*/release/hermes-s6 /out/ ;; \
    prebuilt) cp hermes-s6 /out/ ;; \
    *) echo "PROGRAM=$PROGRAM is neither source nor prebuilt" >&2; exit 1 ;; \
  esac


# All that is not a package, as one tree.
FROM ${BASE_IMAGE} AS rootfs
ARG INIT=debian
# https://github.com/just-containers/s6-overlay/releases
ARG S6_OVERLAY_VERSION=3.2.3.2
ARG S6_OVERLAY_SHA256_NOARCH=5379750ed30a84bbd2e2dd74847ba6b5bd29cd0b2e3ea2ec58049b57eb2eda12
ARG S6_OVERLAY_SHA256_X86_64=e6befcc96a437a3831386ecfc51808c5d3e939dc5fe3c02ae9284599e8aa2408
ARG S6_OVERLAY_SHA256_AARCH64=b17f17a82e7a515c682a91edaf2ffdabb73f891981b6c1fd712115693a2f8b4c
COPY rootfs /build/rootfs
COPY Cargo.toml target/image/s6-overlay-*.tar.xz /build/
COPY --from=program /out/ /build/rootfs/all/usr/local/bin/
WORKDIR /build
# hadolint ignore=DL3008,DL3009 # only /out is copied
RUN set -e; mkdir /out; [ "$INIT" = s6-overlay ] || exit 0; \
  case $(dpkg --print-architecture) in \
    amd64) arch=x86_64 sum=$S6_OVERLAY_SHA256_X86_64 ;; \
    arm64) arch=aarch64 sum=$S6_OVERLAY_SHA256_AARCH64 ;; \
    *) echo "only for amd64 and arm64" >&2; exit 1 ;; \
  esac; \
  apt-get update; \
  apt-get install --yes --no-install-recommends ca-certificates curl xz-utils; \
  for part in noarch "$arch"; do \
    file=s6-overlay-$part.tar.xz; \
    [ -e "$file" ] || curl --fail --silent --show-error --location --remote-name \
      "https://github.com/just-containers/s6-overlay/releases/download/v$S6_OVERLAY_VERSION/$file"; \
  done; \
  printf '%s  s6-overlay-%s.tar.xz\n' "$S6_OVERLAY_SHA256_NOARCH" noarch "$sum" "$arch" >sums; \
  sha256sum --check sums; \
  for part in noarch "$arch"; do tar -C /out -xpf "s6-overlay-$part.tar.xz"; done
# Modes: whatever the umask was of whoever cloned the repository.
RUN chmod -R u+rw,go=rX rootfs \
  && cp -a rootfs/all/. "rootfs/$INIT/." /out/


# What an image needs that has s6-overlay and Hermes Agent already: one that has this copies its / to /, and runs
# /usr/libexec/hermes-s6/add. Its own scripts prepare its volume, and not 01-hermes-setup; what made slots for
# Hermes is replaced.
FROM rootfs AS addition
WORKDIR /build/rootfs/all
RUN mkdir -p opt/hermes/bin /addition \
  && ln -s /usr/local/bin/hermes-s6 opt/hermes/bin/hermes \
  && cp -a --parents usr/local/bin/hermes-s6 usr/local/bin/hermes opt/hermes/bin/hermes opt/hermes/docker \
    usr/share/hermes-s6 etc/cont-init.d/02-reconcile-profiles /addition/ \
  && cp -a ../s6-overlay/. /addition/
FROM scratch AS add
COPY --from=addition /addition /


# Python, as the image has it, and pip.
FROM ${BASE_IMAGE} AS python
ARG DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008 # Debian's archive keeps one version of each, signed
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
  && rm -rf /var/lib/apt/lists/*


# What Hermes' wheel lacks: its skills, and its licence where people look for it. The lock has the hash of the source
# distribution, too. It is in target/image/wheels, or comes from PyPI: pip runs its setup.py then, so only what has that
# hash leaves this stage.
FROM python AS source
ARG HERMES_VERSION
COPY rootfs/all/opt/hermes/lock/hermes-agent-${HERMES_VERSION}.txt target/image/wheels* /build/
WORKDIR /out
RUN name=hermes_agent-${HERMES_VERSION} \
  && if ! [ -e "/build/$name.tar.gz" ]; then \
    python3 -m venv /venv \
    && /venv/bin/pip download --no-cache-dir --disable-pip-version-check --quiet --no-deps \
      --no-binary hermes-agent --dest /build "hermes-agent==${HERMES_VERSION}"; \
  fi \
  && sum=$(sha256sum "/build/$name.tar.gz") \
  && grep -q -e "--hash=sha256:${sum%% *}" "/build/hermes-agent-${HERMES_VERSION}.txt" \
  && tar --no-same-owner --strip-components=1 -xzf "/build/$name.tar.gz" "$name/skills" "$name/optional-skills" \
    "$name/LICENSE" \
  && chmod -R u+rw,go=rX .


# Hermes Agent, all of it locked: from the wheels in target/image/wheels if there are any, else from PyPI. With the
# stamp, Hermes says that this is an image, and does not try to update itself. Last, Hermes makes what a new volume
# gets. Its skills are not in the virtual environment: Hermes finds none beneath a directory called .venv.
FROM python AS hermes
ARG HERMES_VERSION
COPY rootfs/all/opt/hermes/lock/hermes-agent-${HERMES_VERSION}.txt target/image/wheels* /build/
RUN set -- /build/*.whl \
  && if [ -e "$1" ]; then set -- --no-index --find-links /build; else set --; fi \
  && python3 -m venv /opt/hermes/.venv \
  && /opt/hermes/.venv/bin/pip install --no-cache-dir --disable-pip-version-check --quiet --compile \
    --no-deps --only-binary :all: --require-hashes "$@" --requirement "/build/hermes-agent-${HERMES_VERSION}.txt" \
  && /opt/hermes/.venv/bin/pip check --disable-pip-version-check
COPY --from=source /out /opt/hermes
COPY rootfs/all/usr/libexec/hermes-s6/volume.py /build/
RUN for place in /opt/hermes/.venv/lib/python3*/site-packages; do \
    echo docker >"$place/.install_method" || exit 1; \
  done \
  && mkdir /opt/hermes/new-volume \
  && export PYTHONDONTWRITEBYTECODE=1 HERMES_HOME=/opt/hermes/new-volume HERMES_BUNDLED_SKILLS=/opt/hermes/skills \
    HERMES_OPTIONAL_SKILLS=/opt/hermes/optional-skills \
  && /opt/hermes/.venv/bin/python3 /build/volume.py new


FROM ${BASE_IMAGE}
ARG INIT=debian
ARG TOOLS=standard
ARG DEBIAN_FRONTEND=noninteractive
# Packages, those for the agent last; then /command, where s6-overlay has its programs, for Debian's: execlineb is
# the program here, not Debian's wrapper of it; then the user hermes, and what it needs in a container that never was
# root's.
# hadolint ignore=DL3008
RUN set -- ca-certificates python3; [ "$INIT" != debian ] || set -- "$@" s6 execline; \
  case $TOOLS in \
    minimal | standard | full) ;; \
    *) echo "TOOLS=$TOOLS is neither minimal nor standard nor full" >&2; exit 1 ;; \
  esac; \
  [ "$TOOLS" = minimal ] || \
    set -- "$@" curl git iputils-ping openssh-client procps ripgrep xz-utils; \
  [ "$TOOLS" != full ] || \
    set -- "$@" cmake docker-cli ffmpeg g++ gcc libatomic1 libffi-dev libolm-dev make nodejs npm python3-dev \
      python3-venv; \
  apt-get update \
  && apt-get install --yes --no-install-recommends "$@" \
  && rm -rf /var/lib/apt/lists/* \
  && if [ "$INIT" = debian ]; then \
    mkdir -p /command && ln -s /usr/bin/s6-* /usr/lib/execline/bin/* /command/ \
    && install -d -o 10000 -g 10000 /run/service /run/s6; \
  fi \
  && groupadd --gid 10000 hermes \
  && useradd --uid 10000 --gid hermes --home-dir /opt/data --no-create-home --shell /bin/bash hermes \
  && install -d -o hermes -g hermes /opt/data /run/hermes-s6
COPY --from=hermes /opt/hermes /opt/hermes
COPY --from=rootfs /out/ /
# Hermes' Python loads the bridge, whichever version it is; see docs/bridge.md. With s6-overlay, this is also
# where the tree becomes one of the services that are started.
RUN if [ "$INIT" != debian ]; then exec /usr/libexec/hermes-s6/add; fi; \
  for place in /opt/hermes/.venv/lib/python3*/site-packages; do \
    ln -s /usr/share/hermes-s6/python/hermes-s6.pth "$place/" || exit 1; \
  done
# Our hermes comes before that of the virtual environment. What hermes has on the volume is only in hermes' own PATH.
ENV PATH=/command:/usr/local/sbin:/usr/local/bin:/opt/hermes/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  HERMES_HOME=/opt/data \
  HERMES_BUNDLED_SKILLS=/opt/hermes/skills HERMES_OPTIONAL_SKILLS=/opt/hermes/optional-skills \
  HERMES_DISABLE_LAZY_INSTALLS=1 HERMES_LAZY_INSTALL_TARGET=/opt/data/lazy-packages HERMES_WRITE_SAFE_ROOT=/opt/data \
  PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
  S6_BEHAVIOUR_IF_STAGE2_FAILS=2
# Not the volume: from a working directory that hermes can write, root's programs load hermes' code.
WORKDIR /
VOLUME /opt/data
# Whether all that is to run is ready; what is wrong is in the log of the health check.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/usr/local/bin/hermes-s6", "status", "--ready"]
ENTRYPOINT ["/init", "/opt/hermes/docker/main-wrapper.sh"]
