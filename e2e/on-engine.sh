#!/usr/bin/env bash
# Runs a test program on another engine: `on-engine.sh FOLDER NAME PROGRAM...`. FOLDER holds it under every name that
# tests start; NAME is what it must say of itself, with `_` for spaces.
set -euo pipefail
[ -x "$1/redis-server" ] || { echo "$1 is not there: run make setup" >&2; exit 1; }
export PATH="$1:$PATH" BLOBSTORE_ENGINE="${2//_/ }"
shift 2
exec "$@"
