#!/usr/bin/env bash
# rclone: trees there and back, verified by itself with checksums and by reading everything again.
. "$(dirname "$0")/lib.sh"
export RCLONE_CONFIG=$WORK/rclone.conf RCLONE_S3_CHUNK_SIZE=5M RCLONE_S3_UPLOAD_CUTOFF=6M
cat >"$RCLONE_CONFIG" <<END
[store]
type = s3
provider = Other
env_auth = true
endpoint = $endpoint
region = us-east-1
END
make_tree "$WORK/tree"

makes_a_bucket() { rclone mkdir "store:$bucket" && rclone lsd store: | grep "$bucket"; }
copies_a_tree_and_checks_it() {
    rclone copy "$WORK/tree" "store:$bucket/tree" && rclone check "$WORK/tree" "store:$bucket/tree" &&
        rclone check --download "$WORK/tree" "store:$bucket/tree"
}
brings_it_back() { rclone copy "store:$bucket/tree" "$WORK/back" && diff -r "$WORK/tree" "$WORK/back"; }
syncs() {
    rm "$WORK/tree/f1000"
    echo more >>"$WORK/tree/f1"
    rclone sync "$WORK/tree" "store:$bucket/tree" && rclone check "$WORK/tree" "store:$bucket/tree"
}
keeps_modification_times() {
    touch -d '2001-02-03 04:05:06 UTC' "$WORK/tree/f20000"
    rclone sync "$WORK/tree" "store:$bucket/tree" || return 1
    same "$(rclone lsl --utc "store:$bucket/tree/f20000" 2>/dev/null | awk '{print $2}' || true)" 2001-02-03 ||
        rclone lsl "store:$bucket/tree/f20000" | grep 2001-02-03
}
copies_inside() {
    rclone copyto "store:$bucket/tree/deep/big" "store:$bucket/other/big" &&
        rclone cat "store:$bucket/other/big" | cmp - "$WORK/tree/deep/big" &&
        rclone moveto "store:$bucket/other/big" "store:$bucket/other/moved" &&
        same "$(rclone lsf "store:$bucket/other")" moved
}
streams_a_pipe() {
    head -c 7000000 /dev/urandom >"$WORK/pipe"
    rclone rcat "store:$bucket/pipe" <"$WORK/pipe" && rclone cat "store:$bucket/pipe" | cmp - "$WORK/pipe"
}
reads_a_piece() {
    rclone cat --offset 100 --count 50 "store:$bucket/pipe" | cmp - <(tail -c +101 "$WORK/pipe" | head -c 50)
}
counts() { rclone size "store:$bucket/tree" | grep 'Total objects: 8'; }
purges() { rclone purge "store:$bucket" && ! rclone lsd store: | grep "$bucket"; }

check makes_a_bucket makes_a_bucket
check copies_a_tree_and_checks_it copies_a_tree_and_checks_it
check brings_it_back brings_it_back
check syncs syncs
check keeps_modification_times keeps_modification_times
check copies_inside copies_inside
check streams_a_pipe streams_a_pipe
check reads_a_piece reads_a_piece
check counts counts
check purges purges
