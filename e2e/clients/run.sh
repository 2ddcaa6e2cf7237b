#!/usr/bin/env bash
# Runs real S3 clients against `blobstore-sidecar dev`, one line per test as Rust's test runner prints it, and the
# sum in one line at the end. Usage: run.sh [CLIENT...]; SIDECAR names a built binary, otherwise one is built.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${BLOBSTORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blobstore-e2e}/clients
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(boto3 buckets versions protocol edges sums answers forms encrypted awscli rclone s3cmd s5cmd minio restic s3s-e2e)

die() { printf 'clients: %s\n' "$*" >&2; exit 1; }

# The Python clients live in a virtual environment outside the clone, made once per list of versions.
tools() {
    local want=$cache/venv/requirements.txt
    cmp -s "$here/requirements.txt" "$want" && return
    mkdir -p "$cache"
    if ! python3 -m venv "$cache/venv" 2>/dev/null; then
        rm -rf "$cache/venv"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null || die "python3-venv is missing"
        python3 -m venv "$cache/venv" || die "no virtual environment"
    fi
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" ||
        die "the Python clients cannot be installed"
    cp "$here/requirements.txt" "$want"
}

packages() {
    local missing=()
    for tool in rclone restic redis-server; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} -eq 0 ] && return
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "these packages cannot be installed: ${missing[*]}"
}

# The suite of the s3s library is a program from the registry: built once per version, without what only a debugger reads.
suite() {
    local version=0.17.0
    local folder=${cache%/clients}/s3s-e2e-$version
    export S3S_E2E=$folder/bin/s3s-e2e
    case " ${clients[*]} " in *" s3s-e2e "*) ;; *) return ;; esac
    mkdir -p "$folder"
    (
        flock 9
        [ ! -x "$S3S_E2E" ] || exit 0
        echo "clients: building s3s-e2e $version (once)" >&2
        CARGO_TARGET_DIR=$folder/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_INCREMENTAL=false \
            cargo install s3s-e2e --version "$version" --locked --debug --ignore-rust-version --quiet --root "$folder" &&
            rm -rf "$folder/target"
    ) 9>"$folder/.lock" || die "s3s-e2e cannot be built"
}

# Starts the server on free ports and waits for its ready line.
start() {
    "$SIDECAR" dev --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
        --s3-domain s3.blobstore.test --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" \
        >"$work/ready" 2>"$work/log" &
    server=$!
    for _ in $(seq 300); do
        grep -q '^ready ' "$work/ready" && break
        kill -0 $server 2>/dev/null || { cat "$work/log" >&2; die "the server ended"; }
        sleep 0.1
    done
    S3_ENDPOINT=$(sed -n 's/^ready //p' "$work/ready")
    [ -n "$S3_ENDPOINT" ] || die "the server is not ready"
    export S3_ENDPOINT
}

finish() {
    [ -z "${server:-}" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; }
    rm -rf "$work"
}

if [ -z "${SIDECAR:-}" ]; then
    # The build that the tests have made: a test program brings its package's binary along.
    (cd "$here/../.." && cargo test --ignore-rust-version --locked --workspace --no-run --test it) || die "the build failed"
    target=${CARGO_TARGET_DIR:-$here/../../target}
    SIDECAR=$target/debug/blobstore-sidecar
fi
export SIDECAR AWS_ACCESS_KEY_ID=CLIENTSTEST AWS_SECRET_ACCESS_KEY=clients-test-secret-0123456789
# rclone takes no other bundle of certificates than its own.
unset AWS_CA_BUNDLE
export AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true AWS_MAX_ATTEMPTS=2
work=$(mktemp -d)
trap finish EXIT
tools
packages
suite
start
export WORK=$work PATH="$cache/venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1

for client in "${clients[@]}"; do
    export WORK=$work/$client
    mkdir -p "$WORK"
    if [ -f "$here/${client}_scenarios.py" ]; then
        python3 "$here/${client}_scenarios.py" 2>&1
    else
        bash "$here/$client.sh" 2>&1
    fi | tee "$work/$client.out"
    # A client that reports nothing did not run.
    grep -q '^test ' "$work/$client.out" || echo "test $client::runs ... FAILED" | tee -a "$work/$client.out"
done

passed=$(cat "$work"/*.out | grep -c '^test .* \.\.\. ok$')
failed=$(cat "$work"/*.out | grep -c '^test .* \.\.\. FAILED$')
verdict=ok
[ "$failed" = 0 ] || { verdict=FAILED; tail -20 "$work/log" >&2; }
echo "test result: $verdict. $passed passed; $failed failed; 0 ignored"
[ "$failed" = 0 ]
