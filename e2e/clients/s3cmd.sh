#!/usr/bin/env bash
# s3cmd compares every ETag that looks like an MD5 with what it sent.
. "$(dirname "$0")/lib.sh"
cat >"$WORK/s3cfg" <<END
[default]
access_key = $AWS_ACCESS_KEY_ID
secret_key = $AWS_SECRET_ACCESS_KEY
host_base = $host
host_bucket = $host
use_https = False
bucket_location = us-east-1
multipart_chunk_size_mb = 5
END
s3() { command s3cmd --config "$WORK/s3cfg" --quiet "$@"; }
loud() { command s3cmd --config "$WORK/s3cfg" "$@"; }
make_tree "$WORK/tree"

makes_a_bucket() { s3 mb "s3://$bucket" && loud ls | grep "$bucket"; }
puts_and_gets() {
    local file
    for file in f0 f1 f20000 f300000 f2000000; do
        s3 put "$WORK/tree/$file" "s3://$bucket/one/$file" || return 1
        s3 get --force "s3://$bucket/one/$file" "$WORK/got" && cmp "$WORK/got" "$WORK/tree/$file" || return 1
    done
}
uploads_in_parts() {
    s3 put "$WORK/tree/deep/big" "s3://$bucket/big" && s3 get --force "s3://$bucket/big" "$WORK/got" &&
        cmp "$WORK/got" "$WORK/tree/deep/big"
}
syncs_a_tree() {
    s3 sync "$WORK/tree/" "s3://$bucket/tree/" && s3 sync "s3://$bucket/tree/" "$WORK/back/" &&
        diff -r "$WORK/tree" "$WORK/back" && same "$(loud sync "$WORK/tree/" "s3://$bucket/tree/" | grep -c upload:)" 0
}
lists() { loud ls "s3://$bucket/tree/" | grep DIR && loud ls -r "s3://$bucket/tree/" | grep 'deep/er/'; }
copies_and_moves() {
    s3 cp "s3://$bucket/one/f20000" "s3://$bucket/copy" && s3 mv "s3://$bucket/copy" "s3://$bucket/moved" &&
        s3 get --force "s3://$bucket/moved" "$WORK/got" && cmp "$WORK/got" "$WORK/tree/f20000"
}
tells_about_objects() {
    loud info "s3://$bucket/one/f20000" | grep "$(md5sum <"$WORK/tree/f20000" | cut -d' ' -f1)" &&
        loud info "s3://$bucket" | grep Location
}
removes_all() {
    s3 del --recursive --force "s3://$bucket" && s3 rb "s3://$bucket" && ! loud ls | grep "$bucket"
}

check makes_a_bucket makes_a_bucket
check puts_and_gets puts_and_gets
check uploads_in_parts uploads_in_parts
check syncs_a_tree syncs_a_tree
check lists lists
check copies_and_moves copies_and_moves
check tells_about_objects tells_about_objects
check removes_all removes_all
