#!/usr/bin/env bash
# The AWS CLI: high-level commands on trees of files, low-level ones on single requests.
. "$(dirname "$0")/lib.sh"
aws() { command aws --endpoint-url "$endpoint" "$@"; }
make_tree "$WORK/tree"

makes_a_bucket() { aws s3 mb "s3://$bucket" && aws s3 ls | grep "$bucket"; }
copies_a_tree_there_and_back() {
    aws s3 cp --recursive --quiet "$WORK/tree" "s3://$bucket/tree" &&
        aws s3 cp --recursive --quiet "s3://$bucket/tree" "$WORK/back" && diff -r "$WORK/tree" "$WORK/back"
}
syncs_only_what_changed() {
    local out
    aws s3 sync --quiet "$WORK/tree" "s3://$bucket/sync" || return 1
    out=$(aws s3 sync "$WORK/tree" "s3://$bucket/sync") && same "$out" "" || return 1
    echo changed >>"$WORK/tree/f1"
    out=$(aws s3 sync "$WORK/tree" "s3://$bucket/sync") && [[ $out == *f1* && $out != *f1000* ]] || return 1
    rm "$WORK/tree/f1000"
    aws s3 sync --quiet --delete "$WORK/tree" "s3://$bucket/sync" || return 1
    ! aws s3 ls "s3://$bucket/sync/f1000"
}
lists_and_sums() {
    aws s3 ls "s3://$bucket/tree/" | grep 'PRE deep/' &&
        aws s3 ls --recursive --summarize "s3://$bucket/tree" | grep 'Total Objects: 9'
}
streams_through_pipes() {
    head -c 9000000 /dev/urandom >"$WORK/pipe"
    aws s3 cp --quiet - "s3://$bucket/pipe" <"$WORK/pipe" && aws s3 cp --quiet "s3://$bucket/pipe" - | cmp - "$WORK/pipe"
}
copies_and_moves_inside() {
    aws s3 cp --quiet "s3://$bucket/tree/f300000" "s3://$bucket/copy" &&
        aws s3 cp --quiet "s3://$bucket/tree/deep/big" "s3://$bucket/copy-big" &&
        aws s3 mv --quiet "s3://$bucket/copy" "s3://$bucket/moved" &&
        aws s3 cp --quiet "s3://$bucket/moved" - | cmp - "$WORK/tree/f300000" &&
        aws s3 cp --quiet "s3://$bucket/copy-big" - | cmp - "$WORK/tree/deep/big" &&
        ! aws s3 ls "s3://$bucket/copy" | grep 'copy$'
}
presigns() {
    curl -sSf "$(aws s3 presign "s3://$bucket/tree/f20000")" | cmp - "$WORK/tree/f20000"
}
speaks_the_low_level_api() {
    aws s3api put-object --bucket "$bucket" --key api --body "$WORK/tree/f20000" --metadata a=b \
        --checksum-algorithm SHA256 >"$WORK/put.json" || return 1
    grep ChecksumSHA256 "$WORK/put.json" || return 1
    same "$(aws s3api head-object --bucket "$bucket" --key api --query Metadata.a --output text)" b || return 1
    aws s3api get-object --bucket "$bucket" --key api --range bytes=10-19 "$WORK/range" >/dev/null || return 1
    cmp "$WORK/range" <(tail -c +11 "$WORK/tree/f20000" | head -c 10) || return 1
    aws s3api list-objects-v2 --bucket "$bucket" --max-items 3 | grep NextToken
}
removes_all() { aws s3 rb --force "s3://$bucket" >/dev/null && ! aws s3 ls "s3://$bucket"; }

check makes_a_bucket makes_a_bucket
check copies_a_tree_there_and_back copies_a_tree_there_and_back
check lists_and_sums lists_and_sums
check syncs_only_what_changed syncs_only_what_changed
check streams_through_pipes streams_through_pipes
check copies_and_moves_inside copies_and_moves_inside
check presigns presigns
check speaks_the_low_level_api speaks_the_low_level_api
check removes_all removes_all
