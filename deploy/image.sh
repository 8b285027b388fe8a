#!/usr/bin/env bash
# Packs a program of target/release with the few libraries that it needs as a container's root file system, without a base
# image: target/image/PROGRAM.tar, for `docker import`. `image.sh [PROGRAM]`, by default portolan.
set -euo pipefail
cd "$(dirname "$0")/.."

program=${1:-portolan}
binary=target/release/$program
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D "$binary" "$root/usr/bin/$program"
# What debuggers read is three quarters of it.
strip --strip-debug "$root/usr/bin/$program"
# For API servers that a public authority vouches for.
authorities=/etc/ssl/certs/ca-certificates.crt
[ -e "$authorities" ] || { echo "$authorities is missing: install the package ca-certificates" >&2; exit 1; }
install -D --mode 644 "$authorities" "$root$authorities"
# The loader and the libraries, each where the loader looks for it.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    install -D "$(realpath "$library")" "$root$library"
done
mkdir -p target/image "$root/etc/portolan" "$root/tmp"
tar --create --file "target/image/$program.tar" --directory "$root" --owner 0 --group 0 --sort name .
echo "target/image/$program.tar: $(du -h "target/image/$program.tar" | cut -f1)"
