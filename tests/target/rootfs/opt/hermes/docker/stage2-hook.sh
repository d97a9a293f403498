#!/bin/sh
# Gives the volume to hermes. Who runs me: 01-hermes-setup, or entrypoint-dispatch.sh. Rights: root's.
chown hermes:hermes "$HERMES_HOME" && echo "[stage2] Setup complete" >&2
