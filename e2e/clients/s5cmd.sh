#!/usr/bin/env bash
# s5cmd: many requests at once.
. "$(dirname "$0")/lib.sh"
s5() { command s5cmd --endpoint-url "$endpoint" "$@"; }
make_tree "$WORK/tree"
mkdir "$WORK/many"
for i in $(seq 300); do echo "file $i" >"$WORK/many/$i"; done

makes_a_bucket() { s5 mb "s3://$bucket" && s5 ls | grep "$bucket"; }
copies_a_tree() {
    s5 cp "$WORK/tree/" "s3://$bucket/tree/" && s5 cp "s3://$bucket/tree/*" "$WORK/back/" &&
        diff -r "$WORK/tree" "$WORK/back"
}
uploads_in_parts() {
    s5 cp --part-size 5 --concurrency 3 "$WORK/tree/deep/big" "s3://$bucket/big" &&
        s5 cat "s3://$bucket/big" | cmp - "$WORK/tree/deep/big"
}
copies_many_at_once() {
    s5 --numworkers 64 cp "$WORK/many/" "s3://$bucket/many/" >/dev/null &&
        same "$(s5 ls "s3://$bucket/many/" | wc -l)" 300
}
syncs() { s5 sync "$WORK/tree/" "s3://$bucket/tree/" && same "$(s5 sync "$WORK/tree/" "s3://$bucket/tree/")" ""; }
copies_and_moves_inside() {
    s5 cp "s3://$bucket/tree/f20000" "s3://$bucket/copy" && s5 mv "s3://$bucket/copy" "s3://$bucket/moved" &&
        s5 cat "s3://$bucket/moved" | cmp - "$WORK/tree/f20000"
}
sums() { s5 du "s3://$bucket/many/*" | grep '300 objects'; }
heads() { s5 head "s3://$bucket/tree/f20000" | grep 20000; }
removes_all() { s5 rm "s3://$bucket/*" >/dev/null && s5 rb "s3://$bucket" && ! s5 ls | grep "$bucket"; }

check makes_a_bucket makes_a_bucket
check copies_a_tree copies_a_tree
check uploads_in_parts uploads_in_parts
check copies_many_at_once copies_many_at_once
check syncs syncs
check copies_and_moves_inside copies_and_moves_inside
check sums sums
check heads heads
check removes_all removes_all
