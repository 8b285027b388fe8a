#!/bin/sh
# Builds what other projects made and the tests run against, from Go modules, into target/kubernetes: programs into
# `bin`, definitions of custom resources into `crds`. A folder here is a Go module: its go.mod says which versions.
# Does nothing, quickly, when all is there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/kubernetes
# Where it isn't ready yet, so that what is cut short leaves nothing half done behind.
aside=$out/aside
# Ready programs, where a machine has them: etcd, kube-apiserver and kubectl.
assets=$(readlink -f "${KUBEBUILDER_ASSETS:-}" || true)
# As the go.sum files have it, whatever the user's own settings are. Two packages at a time, for the memory.
export CGO_ENABLED=0 GOWORK=off GOFLAGS="-mod=readonly -trimpath -p=2"

main() {
  mkdir -p "$out/bin" "$out/crds/about" "$out/stamps"
  # Of two at once the second waits, and then finds all there.
  exec 9>"$out/lock"
  flock --nonblock 9 || { echo "==> waiting for another build of target/kubernetes" && flock 9; }
  rm -rf "${aside:?}" && mkdir "$aside"
  program etcd etcd go.etcd.io/etcd/server/v3 "about a minute"
  # It compiles what the next two share with it.
  program kube-apiserver kube k8s.io/kubernetes/cmd/kube-apiserver "about 8 minutes"
  program kube-controller-manager kube k8s.io/kubernetes/cmd/kube-controller-manager "about 2 minutes"
  program kubectl kube k8s.io/kubernetes/cmd/kubectl "about a minute"
  program coredns coredns github.com/coredns/coredns "about 2 minutes"
  definitions mcs sigs.k8s.io/mcs-api config/crd
  definitions inventory sigs.k8s.io/cluster-inventory-api config/crd/bases
  cp -u "$here/crds/about.yaml" "$out/crds/about"
}

# program NAME FOLDER PACKAGE DURATION: into bin/NAME.
program() {
  version=$(version_of "$2" "$3")
  flags="-s -w"
  # Without these an API server says v0.0.0-master of itself.
  if [ "$2" = kube ]; then
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
      flags="$flags -X $package.gitVersion=$version -X $package.gitTreeState=clean"
    done
  fi
  ready=
  if [ -n "$assets" ] && [ -x "$assets/$1" ]; then ready=$assets/$1; fi
  stamp=$(stamp_of "$2" "$3 $flags $GOFLAGS $ready")
  fresh "$1" "$stamp" "$out/bin/$1" && return
  if [ -n "$ready" ]; then
    echo "==> using the $1 of KUBEBUILDER_ASSETS"
    ln -sfn "$ready" "$out/bin/$1"
  else
    "$root/deploy/install.sh" --go
    echo "==> building $1 $version from source: $4 the first time, then cached in target/kubernetes"
    (cd "$here/$2" && go build -ldflags "$flags" -o "$aside/$1" "$3")
    mv -f "$aside/$1" "$out/bin/$1"
  fi
  echo "$stamp" >"$out/stamps/$1"
}

# definitions NAME MODULE PATH: the module's YAML files under PATH, into crds/NAME.
definitions() {
  stamp=$(stamp_of crds "$*")
  fresh "crds-$1" "$stamp" "$out/crds/$1" && return
  "$root/deploy/install.sh" --go
  echo "==> copying the definitions of $2 $(version_of crds "$2")"
  (cd "$here/crds" && go mod download "$2")
  module=$(cd "$here/crds" && go list -m -f '{{.Dir}}' "$2")
  mkdir "$aside/$1"
  # The module cache is read-only: its modes stay behind.
  cp --no-preserve=mode "$module/$3"/*.yaml "$aside/$1"
  rm -rf "${out:?}/crds/$1"
  mv "$aside/$1" "$out/crds/$1"
  echo "$stamp" >"$out/stamps/crds-$1"
}

# version_of FOLDER PACKAGE: of the module that has the package.
version_of() {
  awk -v package="$2/" '{
    for (i = 1; i < NF; i++) if (index(package, $i "/") == 1 && $(i + 1) ~ /^v[0-9]/) { print $(i + 1); exit }
  }' "$here/$1/go.mod"
}

# stamp_of FOLDER FLAGS: changes with whatever goes into a build.
stamp_of() {
  { cat "$here/$1/go.mod" "$here/$1/go.sum" && echo "$2"; } | sha256sum | cut -d' ' -f1
}

# fresh NAME STAMP PATH: whether PATH is there, made with the same stamp.
fresh() {
  [ -e "$3" ] && [ -e "$out/stamps/$1" ] && [ "$(cat "$out/stamps/$1")" = "$2" ]
}

main
