#!/usr/bin/env bash
# Runs the suites in order, keeps going after a failure, and ends in one line that counts all tests of all
# runners: `N passed, N failed`. A step that is no test (format, lint, cluster) counts as one when it fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

what=${1:-all}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0
failed=0
summary=()

# What needs a cluster: one program per subject, its own tests first, since what they find explains the others. In
# `e2e/Cargo.toml` each is left out of a plain `cargo test`.
PROGRAMS=(on_cluster faults admission causes in_cluster hygiene ladder failover valkey roll shards cluster_origins release s3)

# suite NAME COMMAND...: runs it, counts what libtest reported; a command that failed without a failed
# test (it did not compile, say) counts as one failure.
suite() {
    local name=$1 start=$SECONDS status=0 good bad
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$logs/$name" || status=1
    good=$(count passed "$logs/$name") bad=$(count failed "$logs/$name")
    [ $status = 0 ] || [ "$bad" != 0 ] || bad=1
    passed=$((passed + good)) failed=$((failed + bad))
    summary+=("$(printf '%-12s %5d passed %3d failed %5d s' "$name" "$good" "$bad" $((SECONDS - start)))")
    return $((bad > 0))
}

# Sum of `N passed` or `N failed` over all result lines of libtest.
count() {
    awk -v word="$1;" '/^test result: / { for (i = 2; i <= NF; i++) if ($i == word) sum += $(i - 1) }
        END { print sum + 0 }' "$2"
}

# The whole workspace everywhere: with a part of it cargo chooses other features for what all share, and builds all
# of it once more.
CARGO=(--ignore-rust-version --locked --workspace)

# told STATUS FILE: what a command that ran beside the others has printed, and how it ended.
told() {
    cat "$2"
    return "$1"
}

lint() {
    suite format cargo fmt --all --check
    suite lint cargo clippy "${CARGO[@]}" --all-targets -- -D warnings
    # Programs that need a cluster are no part of `all targets`.
    suite lint-e2e cargo clippy "${CARGO[@]}" "${PROGRAMS[@]/#/--test=}" -- -D warnings
}

# Fifty stores are watched for two minutes in which next to nothing happens: beside the other tests.
unit() {
    cargo test "${CARGO[@]}" --test fifty >"$logs/beside" 2>&1 &
    local beside=$! status=0
    suite unit cargo test "${CARGO[@]}" --no-fail-fast -- --skip fifty_stores
    wait "$beside" || status=$?
    suite fifty told "$status" "$logs/beside"
    valkey_in_short
    suite clients e2e/clients/run.sh
}

# The programs that start engines of their own, on another engine than the distribution's: they find it first on their
# PATH, and one of them asks it who it is. The build stays the same, so nothing is compiled again.
ENGINE_PROGRAMS=(engine store cluster launcher it origins)
cache=${BLOBSTORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blobstore-e2e}

# on_engine PROGRAM SERIES NAME TEST...: NAME as the sidecar says it.
on_engine() {
    local folder=$cache/$1-$2 name="$3 $2" label=$3
    shift 3
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$PWD/e2e/on-engine.sh $folder ${name// /_}" \
        suite "$label" cargo test "${CARGO[@]}" --no-fail-fast "${@/#/--test=}"
}

engines() {
    local VALKEY REDIS
    # shellcheck source=cluster/versions
    . e2e/cluster/versions
    on_engine valkey-server "$VALKEY" valkey "${ENGINE_PROGRAMS[@]}"
    # Not its memory: no layout of Redis 8.0 is known, and its verdicts stay `Unknown`.
    on_engine redis-server "$REDIS" redis "${ENGINE_PROGRAMS[@]:1}"
}

# In every run: what depends most on the engine's insides (its memory, its replication), on Valkey.
valkey_in_short() {
    local VALKEY
    # shellcheck source=cluster/versions
    . e2e/cluster/versions
    on_engine valkey-server "$VALKEY" valkey engine cluster
}

# One test program at a time: tests that stop a node or the API server would disturb all others.
end_to_end() {
    local own=no
    if [ -z "${KUBE_CONTEXT:-}" ]; then
        own=yes
        suite cluster make --no-print-directory cluster-up images || { finish_cluster; return; }
    fi
    e2e_suite e2e
    # A soak is the same suite again and again: what fails once in a hundred runs shows here.
    local round=1
    while [ $((SECONDS / 60)) -lt "${1:-0}" ]; do
        round=$((round + 1))
        e2e_suite "e2e-$round"
    done
    [ $own = no ] || finish_cluster
}

e2e_suite() {
    suite "$1" cargo test "${CARGO[@]}" --no-fail-fast "${PROGRAMS[@]/#/--test=}" -- \
        --test-threads="${E2E_THREADS:-2}"
}

finish_cluster() {
    [ -n "${KEEP_CLUSTER:-}" ] || suite down make --no-print-directory cluster-down
}

suite setup e2e/setup.sh
case $what in
all) lint; unit; end_to_end ;;
lint) lint ;;
unit) lint; unit ;;
e2e) end_to_end ;;
engines) engines ;;
soak)
    # The times that are promised; a normal run takes less of everybody's time.
    export E2E_S3_MINUTES=${E2E_S3_MINUTES:-10}
    export FUZZ_SECONDS=${FUZZ_SECONDS:-60}
    suite fuzz-build cargo build "${CARGO[@]}" --bin blobstore-sidecar-fuzz
    suite fuzz "${CARGO_TARGET_DIR:-target}/debug/blobstore-sidecar-fuzz"
    engines
    end_to_end "${SOAK_MINUTES:-60}"
    ;;
*) echo "unknown: $what (all, lint, unit, e2e, engines, soak)" >&2; exit 2 ;;
esac

printf '\n'
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
