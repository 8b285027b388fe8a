#!/usr/bin/env bash
# Installs what is missing, and says so: `install.sh PACKAGE...` Debian packages, `install.sh --rust` a Rust toolchain.
# `install.sh --idle PACKAGE...` packages of servers, none of which is started, now or when the machine is.
# `install.sh --go` says what to do when there is no Go that builds the API servers of the tests.
# Does nothing, quickly, when all is there.
set -euo pipefail

# The oldest Rust that the workspace builds with.
msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    echo "error: installing packages needs root: run '$*' as root, then try again" >&2
    exit 1
  fi
}

# Those of some packages that are not installed.
missing_of() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
  done
}

apt_install() {
  local missing
  mapfile -t missing < <(missing_of "$@")
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || {
    echo "error: no apt-get here: install the programs of these Debian packages by hand: ${missing[*]}" >&2
    exit 1
  }
  echo "==> installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Packages of servers that are wanted as programs: whether services may start is asked of a policy (invoke-rc.d(8)), which says no.
idle_install() {
  local policy=/usr/sbin/policy-rc.d missing unit answer=0
  mapfile -t missing < <(missing_of "$@")
  [ ${#missing[@]} = 0 ] && return
  if [ -e "$policy" ]; then
    "$policy" any start >/dev/null 2>&1 || answer=$?
    [ $answer = 101 ] || {
      echo "error: $policy lets services start: install these packages by hand: ${missing[*]}" >&2
      exit 1
    }
  else
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  apt_install "${missing[@]}"
  command -v systemctl >/dev/null || return 0
  dpkg -L "${missing[@]}" | sed -n 's#.*/lib/systemd/system/\([^@/]*\.service\)$#\1#p' | while read -r unit; do
    as_root systemctl disable --quiet "$unit"
  done
}

# Whether there is a cargo that is new enough, with formatter and linter.
have_rust() {
  local version
  version=$(cargo --version 2>/dev/null | awk '{print $2}') || return 1
  [ -n "$version" ] && [ "$(printf '%s\n%s\n' "$msrv" "$version" | sort -V | head -1)" = "$msrv" ] &&
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1
}

rust() {
  export PATH="$HOME/.cargo/bin:$PATH"
  have_rust && return
  if ! command -v rustup >/dev/null; then
    apt-cache show rustup >/dev/null 2>&1 && apt_install rustup || {
      echo "error: no Rust $msrv or newer with rustfmt and clippy, and no rustup to get one:" >&2
      echo "       Debian has a package of rustup from release 13 on; elsewhere install rustup, then try again" >&2
      exit 1
    }
  fi
  echo "==> installing the Rust toolchain by rustup"
  rustup toolchain install stable --profile minimal --component rustfmt,clippy
  rustup default stable
}

# Whether `go` reads the tests' modules: it is new enough, or gets itself a newer one.
go_toolchain() {
  local module oldest said
  module=$(dirname "$0")/../tests/kubernetes/kube
  said=$(cd "$module" && GOFLAGS='' go list -m 2>&1) && return
  oldest=$(sed -n 's/^go //p' "$module/go.mod")
  echo "$said" >&2
  echo "error: no Go $oldest or newer, which builds the Kubernetes API servers that the tests run against:" >&2
  echo "       install it as its makers or your distribution's backports have it, then try again" >&2
  echo "       (any Go from 1.21 on will do where GOTOOLCHAIN=auto lets it get a newer one)" >&2
  exit 1
}

case "${1:-}" in
  --rust) rust ;;
  --go) go_toolchain ;;
  --idle) idle_install "${@:2}" ;;
  *) apt_install "$@" ;;
esac
