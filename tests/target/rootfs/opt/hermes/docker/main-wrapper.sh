#!/bin/sh
# Stands where the original runs the container's command. Who runs me: the init, or entrypoint-dispatch.sh.
echo "the original's main-wrapper.sh" >&2
if [ $# -eq 0 ]; then set -- sleep infinity; fi
exec /command/s6-setuidgid hermes "$@"
