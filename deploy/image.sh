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
# What debuggers read is three quarters of it.
strip --strip-debug "$root/usr/bin/portolan"
# For API servers that a public authority vouches for.
authorities=/etc/ssl/certs/ca-certificates.crt
[ -e "$authorities" ] || { echo "$authorities is missing: install the package ca-certificates" >&2; exit 1; }
install -D --mode 644 "$authorities" "$root$authorities"
# The loader and the libraries, each where the loader looks for it.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    install -D "$(realpath "$library")" "$root$library"
done
mkdir -p target/image "$root/etc/portolan" "$root/tmp"
tar --create --file target/image/portolan.tar --directory "$root" --owner 0 --group 0 --sort name .
echo "target/image/portolan.tar: $(du -h target/image/portolan.tar | cut -f1)"
