#!/usr/bin/env bash
# restic: a repository in a bucket; backup, check of every byte, restore, forget and prune.
. "$(dirname "$0")/lib.sh"
export RESTIC_REPOSITORY=s3:$endpoint/$bucket/repo RESTIC_PASSWORD=secret RESTIC_CACHE_DIR=$WORK/cache
make_tree "$WORK/tree"

makes_a_repository() { restic init; }
backs_up() { restic backup --quiet "$WORK/tree" && restic snapshots | grep '1 snapshots'; }
checks_every_byte() { restic check --read-data; }
restores() { restic restore latest --target "$WORK/back" && diff -r "$WORK/tree" "$WORK/back$WORK/tree"; }
backs_up_again_and_prunes() {
    rm "$WORK/tree/f1000"
    head -c 3000000 /dev/urandom >"$WORK/tree/new"
    restic backup --quiet "$WORK/tree" && restic forget --keep-last 1 --prune && restic check --read-data
}
compares_snapshots() { restic stats latest && restic ls latest | grep new; }

check makes_a_repository makes_a_repository
check backs_up backs_up
check checks_every_byte checks_every_byte
check restores restores
check backs_up_again_and_prunes backs_up_again_and_prunes
check compares_snapshots compares_snapshots
