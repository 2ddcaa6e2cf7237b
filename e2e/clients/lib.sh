# Shared by the command-line clients: `check NAME COMMAND...` runs one test and prints its line.
set -uo pipefail
client=$(basename "$0" .sh)
endpoint=$S3_ENDPOINT
host=${S3_ENDPOINT#http://}
bucket=$client-$$-$RANDOM

check() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then
        echo "test $client::$name ... ok"
    else
        echo "test $client::$name ... FAILED"
        printf '%s\n' "$out" | tail -15
    fi
}

# Files of several sizes, some in folders, some with names that need care.
make_tree() {
    local size
    mkdir -p "$1/deep/er" "$1/späce d"
    for size in 0 1 1000 20000 300000 2000000; do
        head -c "$size" /dev/urandom >"$1/f$size"
    done
    head -c 12000000 /dev/urandom >"$1/deep/big"
    echo hello >"$1/deep/er/ä+b&c"
    echo space >"$1/späce d/a b"
}

same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }
