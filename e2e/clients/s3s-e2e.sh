# The suite that the s3s library brings for S3 servers, on the AWS SDK for Rust. What needs STS is left out: there is
# none here.
. "$(dirname "$0")/lib.sh"
export AWS_ENDPOINT_URL=$endpoint AWS_REGION=$AWS_DEFAULT_REGION
"$S3S_E2E" --filter '^(Basic/.*|Advanced/(Multipart|Tagging|ListPagination|PresignedUrl)/.*)$' >"$WORK/out" 2>&1
# Only tests have three parts; suites and groups are sums of them.
sed -nE 's#^(PASSED|FAILED) .*\[([A-Za-z]+)/([A-Za-z]+)/([a-z0-9_]+)\].*#\1 \2/\3/\4#p' "$WORK/out" |
    sed -E 's#^PASSED (.*)#test s3s-e2e::\1 ... ok#; s#^FAILED (.*)#test s3s-e2e::\1 ... FAILED#' | tee "$WORK/lines"
! grep -q FAILED "$WORK/lines" || tail -60 "$WORK/out"
