#!/usr/bin/env bash
# Installs what the end-to-end cluster needs: Debian packages, and the components that Debian does not
# carry, built from pinned Go modules into a cache outside the clone; engines of a newer Debian beside them. Quiet and
# quick when all is there.
# `setup.sh peers` installs the servers that the benchmark compares with as well.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cluster/versions
. "$HERE/cluster/versions"
CACHE=${BLOBSTORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blobstore-e2e}

# command:package, one a line; a command that is there stays as it is.
NEEDED="
cc:gcc libc6-dev
make:make
openssl:openssl
etcd:etcd-server
containerd:containerd
ctr:containerd
runc:runc
iptables:iptables
nft:nftables
conntrack:conntrack
ip:iproute2
mount:mount
ps:procps
redis-server:redis-server
redis-cli:redis-tools
prometheus:prometheus
promtool:prometheus
prometheus-alertmanager:prometheus-alertmanager
nginx:nginx-light
wrk:wrk
"

PEERS_NEEDED="
varnishd:varnish
webdis:webdis
"

case ${1:-} in
peers) NEEDED+=$PEERS_NEEDED ;;
'') ;;
*) echo "unknown: $1 (nothing, peers)" >&2; exit 2 ;;
esac

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

missing_packages() {
    local line
    while IFS=: read -r command package; do
        [ -z "$command" ] || PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null || echo "$package"
    done <<<"$NEEDED"
    for line in bridge host-local loopback portmap; do
        [ -x "/usr/lib/cni/$line" ] || { echo containernetworking-plugins; break; }
    done
    [ -e /usr/lib/x86_64-linux-gnu/libc.a ] || echo libc6-dev
}

install_packages() {
    local missing policy=/usr/sbin/policy-rc.d ours=no
    missing=$(missing_packages | tr ' ' '\n' | sort -u | tr '\n' ' ')
    [ -n "${missing// /}" ] || return 0
    [ "$(id -u)" = 0 ] || die "these packages are missing and only root can install them: $missing"
    command -v apt-get >/dev/null || die "these packages are missing and there is no apt-get here: $missing"
    say "installing $missing"
    export DEBIAN_FRONTEND=noninteractive
    # The packages' own services must not start: the harness runs its own on other ports.
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        ours=yes
    fi
    local failed=0
    # shellcheck disable=SC2086
    { apt-get -qq update && apt-get -qq -y --no-install-recommends install $missing; } >&2 || failed=1
    [ $ours = no ] || rm -f $policy
    [ $failed = 0 ] || die "apt-get failed"
    missing=$(missing_packages | tr '\n' ' ')
    [ -z "${missing// /}" ] || die "still missing after the installation: $missing"
}

# build NAME VERSION FUNCTION: runs FUNCTION with a scratch folder, then moves the result in place.
build() {
    local folder="$CACHE/$1-$2" scratch start=$SECONDS
    [ -x "$folder/$1" ] && return 0
    command -v go >/dev/null || die "$1 is built with Go, and there is no go on PATH"
    say "building $1 $2 (once)"
    mkdir -p "$CACHE"
    scratch=$(mktemp -d "$CACHE/.build-$1.XXXXXX")
    "$3" "$scratch" || { rm -rf "$scratch"; die "building $1 failed"; }
    rm -rf "$folder"
    mv -T "$scratch" "$folder"
    say "built $1 $2 in $((SECONDS - start)) s"
}

kube_node() {
    local v=v$KUBERNETES minor name
    minor=$(cut -d. -f2 <<<"$KUBERNETES")
    # Without these it calls itself v0.0.0, and the API server refuses kubelets by version.
    local at=k8s.io/component-base/version
    local flags="-s -w -X k8s.io/client-go/pkg/version.gitVersion=$v -X $at.gitVersion=$v"
    flags+=" -X $at.gitMajor=1 -X $at.gitMinor=$minor -X $at.gitTreeState=clean"
    (cd "$HERE/cluster" && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$1/kube-node" .) || return 1
    for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
        ln -s kube-node "$1/$name"
    done
}

helm() { CGO_ENABLED=0 GOBIN="$1" GOFLAGS= go install -trimpath -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@v$HELM"; }
coredns() { CGO_ENABLED=0 GOBIN="$1" GOFLAGS= go install -trimpath -ldflags "-s -w" "github.com/coredns/coredns@v$COREDNS"; }
versitygw() { CGO_ENABLED=0 GOBIN="$1" GOFLAGS= go install -trimpath -ldflags "-s -w" "github.com/versity/versitygw/cmd/versitygw@v$VERSITYGW"; }
minio() { CGO_ENABLED=0 GOBIN="$1" GOFLAGS= go install -trimpath -tags kqueue -ldflags "-s -w" "github.com/minio/minio@v$MINIO"; }

# engine PROGRAM SERIES FOLDER PACKAGE...: a server of a newer Debian with that Debian's libraries, in a root folder of its
# own. apt works on lists of its own: this machine's packages and sources stay as they are.
engine() {
    local program=$1 series=$2 folder=$3 found here=$3/apt
    local release=trixie keys=/usr/share/keyrings/debian-archive-keyring.gpg
    shift 3
    mkdir -p "$here"/{lists,archives}/partial "$here/debs" "$folder/root"
    : >"$here/status"
    sed -n 's/^URIs: *//p; s/^deb [^h]*\(http[^ ]*\) .*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/debian* 2>/dev/null |
        grep -v security | sort -u | head -1 | sed "s|.*|deb [signed-by=$keys] & $release main|" >"$here/sources"
    local options=(-o "Dir::Etc::sourcelist=$here/sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$here"
        -o "Dir::State::status=$here/status" -o "Dir::Cache=$here" -o APT::Sandbox::User=root)
    apt-get -qq "${options[@]}" update >&2 || return 1
    (cd "$here/debs" && apt-get -qq "${options[@]}" download "$@" "${ENGINE_LIBRARIES[@]}" >&2) || return 1
    for found in "$here"/debs/*.deb; do dpkg-deb -x "$found" "$folder/root" || return 1; done
    rm -rf "$here"
    # As an installed system has them: programs ask for their loader at /lib64.
    ln -s usr/lib usr/lib64 "$folder/root"
    wrapper "$folder" "$program"
    # Whatever the tests are told to start, they start this.
    [ "$program" = redis-server ] || ln -s "$program" "$folder/redis-server"
    found=$("$folder/$program" --version) || return 1
    [[ $found == *"v=$series."* ]] || { say "$release has another $program: $found"; return 1; }
}

# The machine's own loader and libraries are older: the program runs with those of its root.
wrapper() {
    cat >"$1/$2" <<EOF
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
exec "\$root/lib64/ld-linux-x86-64.so.2" --library-path "\$root/usr/lib/x86_64-linux-gnu" "\$root/usr/bin/$2" "\$@"
EOF
    chmod 755 "$1/$2"
}

ENGINE_LIBRARIES=(libc6 libgcc-s1 libstdc++6 libatomic1 libjemalloc2 liblzf1 libssl3t64 libsystemd0 libcap2 libzstd1 zlib1g)
valkey() { engine valkey-server "$VALKEY" "$1" valkey-server valkey-tools; }
redis() { engine redis-server "$REDIS" "$1" redis-server redis-tools; }
pause() { cc -static -Os -s -o "$1/pause" "$HERE/cluster/pause.c"; }

# One setup at a time: two of them would build everything twice.
mkdir -p "$CACHE"
exec 9>"$CACHE/.setup-lock"
flock 9
install_packages
build pause "$PAUSE" pause
build kube-node "$KUBERNETES" kube_node
build helm "$HELM" helm
build coredns "$COREDNS" coredns
build valkey-server "$VALKEY" valkey
build redis-server "$REDIS" redis
if [ "${1:-}" = peers ]; then
    build versitygw "$VERSITYGW" versitygw
    build minio "$MINIO" minio
fi
