# Gives login shells the PATH of the image again, which Debian's /etc/profile has just replaced.
#
# Who runs me: each login shell, from /etc/profile, before the other files here. Rights: those of the shell's user.
# Hermes' terminal tool reads its environment in such a shell.
# shellcheck shell=sh

PATH=/command:/usr/local/sbin:/usr/local/bin:/opt/hermes/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Whoever writes the volume says what lies there, so root must not find it.
if [ "$(id -u)" -ne 0 ]; then
  hermes_data=${HERMES_HOME:-/opt/data}
  case $hermes_data in /*/profiles/*) hermes_data=${hermes_data%/profiles/*} ;; esac
  PATH=$PATH:${hermes_data%/}/.local/bin
  unset hermes_data
fi
export PATH
