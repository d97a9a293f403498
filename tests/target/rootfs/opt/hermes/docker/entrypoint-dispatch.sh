#!/bin/sh
# Becomes the init, or the command where another init is PID 1, as the original does since it was not always PID 1.
# Who runs me: the container's runtime, or its init. Rights: root's.
[ $$ -ne 1 ] || exec /init /opt/hermes/docker/main-wrapper.sh "$@"
/opt/hermes/docker/stage2-hook.sh
exec /opt/hermes/docker/main-wrapper.sh "$@"
