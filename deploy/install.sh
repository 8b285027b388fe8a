#!/usr/bin/env bash
# Installs what is missing, and says so: `install.sh PACKAGE...` Debian packages, `install.sh --rust` a Rust toolchain.
# Does nothing, quickly, when all is there.
set -euo pipefail

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    echo "error: installing packages needs root: run '$*' as root, then try again" >&2
    exit 1
  fi
}

apt_install() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || {
    echo "error: no apt-get here: install these Debian packages' programs by hand: ${missing[*]}" >&2
    exit 1
  }
  echo "==> installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

rust() {
  export PATH="$HOME/.cargo/bin:$PATH"
  if ! command -v cargo >/dev/null; then
    # Debian packages rustup from release 13 on; before that, one has to come from elsewhere.
    command -v rustup >/dev/null || apt_install rustup || {
      echo "error: no Rust toolchain and no rustup package: install rustup, then try again" >&2
      exit 1
    }
    echo "==> installing the Rust toolchain by rustup"
    rustup toolchain install stable --profile minimal --component rustfmt,clippy
    rustup default stable
  fi
}

if [ "${1:-}" = --rust ]; then rust; else apt_install "$@"; fi
