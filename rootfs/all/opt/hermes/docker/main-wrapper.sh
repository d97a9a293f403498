#!/command/with-contenv /bin/sh
# Runs the container's command as the user hermes: a program, or else a subcommand of Hermes.
#
# Who runs me: the container's init, when the tree of the gateways is up, with the command as arguments.
# Rights: root's, dropped here, or those of the user hermes. stdin, stdout and the working directory are
# the command's. When it ends, the container does.
set -u

home=${HERMES_HOME:-/opt/data}
case $home in /*/profiles/*) home=${home%/profiles/*} ;; esac
export HOME="$home"
if [ "$(/usr/bin/id -u)" -eq 0 ]; then
  export USER=hermes LOGNAME=hermes
  as_hermes=/command/s6-setuidgid\ hermes
else
  as_hermes=
fi
hermes=/opt/hermes/.venv/bin/hermes

# Tells whether the arguments are `gateway run` as hermes-s6 does it, and for which profile.
is_gateway_run() {
  profile=default
  case ${1:-} in hermes | */hermes) shift ;; esac
  while [ $# -gt 0 ]; do
    case $1 in
      -p | --profile)
        profile=${2:-}
        [ $# -gt 1 ] && shift
        ;;
      --profile=*) profile=${1#*=} ;;
      *) break ;;
    esac
    shift
  done
  [ "${1:-}" = gateway ] || return 1
  shift
  [ $# -eq 0 ] || [ "$1" = run ] || return 1
  for option do
    # The options that hermes-s6 knows in the container's command.
    case $option in
      run | -q | --quiet | --verbose | --replace | --force | --accept-hooks | --external-supervisor) ;;
      -v*[!v]*) return 1 ;;
      -v*) ;;
      *) return 1 ;;
    esac
  done
  case ${HERMES_GATEWAY_NO_SUPERVISE:-} in 1 | [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn]) return 1 ;; esac
}

# Becomes a program, as hermes.
become() {
  # / is where the image starts; in any other place somebody has put us.
  [ "$(pwd)" != / ] || set -- /usr/bin/env --chdir="$home" "$@"
  # shellcheck disable=SC2086 # several words
  exec $as_hermes "$@"
}

# By its path: PATH may be anything in a container.
block() { become /bin/sleep infinity; }

if [ $# -eq 0 ]; then
  # With a terminal, somebody wants to talk to Hermes; without one, the gateways are all there is to run.
  [ ! -t 0 ] || become "$hermes"
  block
fi
if is_gateway_run "$@"; then
  # shellcheck disable=SC2086 # several words
  $as_hermes /usr/local/bin/hermes-s6 start -p "$profile" --unless-stopped >&2
  code=$?
  # Wrong usage: there is no such profile.
  [ "$code" -ne 100 ] || exit 100
  /bin/cat >&2 <<END

The gateway of profile $profile is supervised by s6 in this container, with those of all other profiles:
it is restarted when it fails, and comes back with the container as you left it.
  hermes-s6 status                     what runs, and what should
  hermes-s6 stop -p $profile            stops it for good
  gateway run --no-supervise           as the container's command: runs it as that command, unsupervised
END
  block
fi
case $1 in
  # A path is no subcommand.
  */*) ;;
  # Debian's is of no use here.
  login) set -- "$hermes" "$@" ;;
  *) command -v -- "$1" >/dev/null || set -- "$hermes" "$@" ;;
esac
become "$@"
