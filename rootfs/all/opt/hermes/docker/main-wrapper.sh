#!/command/with-contenv /bin/sh
# Runs the container's command as the user hermes: a program, or else a subcommand of Hermes.
#
# Who runs me: the container's init, when the tree of the gateways is up, with the command as arguments.
# Rights: root's, dropped here, or those of the user hermes. stdin, stdout and the working directory are
# the command's. When it ends, the container does.
set -u

home=${HERMES_HOME:-/opt/data}
home=${home%/}
case $home in /*/profiles/*) home=${home%/profiles/*} ;; esac
export HOME="$home"
if [ "$(/usr/bin/id -u)" -eq 0 ]; then
  export USER=hermes LOGNAME=hermes
  as_hermes=/command/s6-setuidgid\ hermes
else
  as_hermes=
fi
hermes=/opt/hermes/.venv/bin/hermes

# Tells whether the arguments are a `gateway run` to be supervised, and of which profile if that is named.
# hermes-s6 has to take the same command lines for one (src/container.rs): it starts no gateway beside one
# that is the container's command.
is_gateway_run() {
  profile=
  stage=top
  case ${1:-} in hermes | */hermes) shift ;; esac
  while [ $# -gt 0 ]; do
    case $stage:$1 in
      *:-p | *:--profile)
        [ $# -gt 1 ] || return 1
        profile=${profile:-$2}
        shift
        ;;
      *:--profile=*) profile=${profile:-${1#*=}} ;;
      top:--accept-hooks | top:--yolo) ;;
      top:gateway) stage=gateway ;;
      gateway:run) stage=run ;;
      run:-q | run:--quiet | run:--verbose | run:--replace | run:--force | run:--accept-hooks) ;;
      run:--external-supervisor) ;;
      run:-v*[!v]*) return 1 ;;
      run:-v*) ;;
      *) return 1 ;;
    esac
    shift
  done
  [ "$stage" != top ] || return 1
  case ${HERMES_GATEWAY_NO_SUPERVISE:-} in 1 | [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn]) return 1 ;; esac
}

# Becomes a program, as hermes: in the working directory that somebody has asked for, or, where the image
# starts in / since nothing of hermes' is there, in the data root.
become() {
  [ "$(pwd)" != / ] || set -- /command/cd "$home" "$@"
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
  $as_hermes /usr/local/bin/hermes-s6 start ${profile:+-p "$profile"} --unless-stopped >&2
  code=$?
  # Wrong usage: there is no such profile.
  [ "$code" -ne 100 ] || exit 100
  /bin/cat >&2 <<END

This gateway is supervised by s6 in this container, with those of all other profiles: it is restarted when it
fails, and comes back with the container as you left it.
  hermes-s6 status              what runs, and what should
  hermes-s6 stop                stops it for good, another one with -p NAME
  gateway run --no-supervise    as the container's command: runs it as that command, unsupervised
END
  block
fi
case $1 in
  # A path is no subcommand.
  */*) ;;
  # Hermes', not login(1).
  login) set -- "$hermes" "$@" ;;
  *) command -v -- "$1" >/dev/null || set -- "$hermes" "$@" ;;
esac
become "$@"
