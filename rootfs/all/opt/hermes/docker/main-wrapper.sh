#!/bin/sh
# Runs the container's command as the user hermes: a program, or else a subcommand of Hermes.
#
# Who runs me: the container's init, when the tree of the gateways is up, with the command as arguments; or, where
# another init is PID 1 and so no tree comes up, whoever runs the command there. Rights: root's, dropped here, or
# those of the user hermes. stdin, stdout and the working directory are the command's. When the command ends, the
# container ends.
set -u

say() { echo "main-wrapper: $*" >&2; }
# s6 as PID 1 has put the container's environment into files. Where it is not PID 1, the environment is mine, and
# such files could be anybody's.
pid1=
read -r pid1 </proc/1/comm
if [ "$pid1" = s6-svscan ] && [ -z "${HERMES_S6_CONTENV:-}" ]; then
  exec /command/with-contenv /usr/bin/env HERMES_S6_CONTENV=1 /bin/sh "$0" "$@"
fi
unset HERMES_S6_CONTENV

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
# By its path: PATH may be anything in a container.
hermes=/usr/local/bin/hermes
# The command also finds the programs that hermes has on the volume. Root runs none: all that runs before the drop
# is named by its path.
export PATH="$PATH:$home/.local/bin"

# Becomes a program, as hermes: in the working directory that the container was started with. The default is /,
# where hermes has no files; then it is the data root.
become() {
  if [ "$(pwd)" = / ]; then
    set -- /command/cd "$home" "$@"
    PWD=$home
  fi
  export PWD
  # shellcheck disable=SC2086 # several words
  exec $as_hermes "$@"
}

if [ "$pid1" != s6-svscan ]; then
  if [ $# -eq 0 ] && ! [ -t 0 ]; then
    say "fatal: PID 1 is $pid1, not s6: gateways cannot be supervised here, and there is no command to run; start the" \
      "container without --init (init: true), or give it a command such as gateway run"
    exit 100
  fi
  say "warning: PID 1 is $pid1, not s6: no gateway is supervised here, only the command runs; start the container" \
    "without --init (init: true) if you can"
fi
if [ $# -eq 0 ]; then
  # With a terminal, somebody wants to talk to Hermes; without one, the gateways are all there is to run.
  if [ -t 0 ]; then become "$hermes"; else become /bin/sleep infinity; fi
fi
case $1 in
  hermes | /opt/hermes/.venv/bin/hermes)
    shift
    set -- "$hermes" "$@"
    ;;
  # A path is no subcommand.
  */*) ;;
  # The subcommands of Hermes, not login(1), nor a program of Hermes' Python.
  login | mcp) set -- "$hermes" "$@" ;;
  *) command -v -- "$1" >/dev/null || set -- "$hermes" "$@" ;;
esac
# For `gateway run`: a gateway that its operator has stopped stays down when the container is started again.
[ "$1" != "$hermes" ] || export HERMES_S6_CONTAINER_COMMAND=1
become "$@"
