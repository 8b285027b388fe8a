#!/usr/bin/env bash
# Packs target/release/portolan with the few libraries that it needs as a container's root file system, without a base
# image: target/image/portolan.tar, for `docker import`.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${1:-target/release/portolan}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D "$binary" "$root/usr/bin/portolan"
# The loader and the libraries, each where the loader looks for it.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    install -D "$(realpath "$library")" "$root$library"
done
mkdir -p target/image "$root/etc/portolan" "$root/tmp"
tar --create --file target/image/portolan.tar --directory "$root" --owner 0 --group 0 --sort name .
echo "target/image/portolan.tar: $(du -h target/image/portolan.tar | cut -f1)"
