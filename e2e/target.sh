#!/usr/bin/env bash
# The target folder outlives the clone, and cargo takes a crate of two clones for the same one: whichever was built
# last would be run in both. When another clone built here before, what is ours is built anew; dependencies stay.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${CARGO_TARGET_DIR:?where cargo builds}"
mark=$CARGO_TARGET_DIR/.clone
[ -e "$mark" ] && [ "$(<"$mark")" = "$PWD" ] && exit 0
mkdir -p "$CARGO_TARGET_DIR"
exec 8>"$CARGO_TARGET_DIR/.clone-lock"
flock 8
# Each profile of each target has a folder of its own, and `cargo clean` looks into one of them.
for profile in "$CARGO_TARGET_DIR"/{debug,release}/ "$CARGO_TARGET_DIR"/*-linux-*/{debug,release}/; do
    [ -d "$profile" ] || continue
    options=(--quiet --workspace)
    [[ $profile != */release/ ]] || options+=(--release)
    [[ $profile != *-linux-* ]] || options+=(--target "$(basename "$(dirname "$profile")")")
    cargo clean "${options[@]}"
done
printf '%s\n' "$PWD" >"$mark"
