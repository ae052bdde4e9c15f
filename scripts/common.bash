# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034 # the lists are for who sources this
# What quickstart and test share: packages and the build. Sourced, with the
# repository as the current directory.

BUILD_PACKAGES=(
  g++ meson ninja-build pkg-config
  libfuse3-dev fuse3 librocksdb-dev libabsl-dev
  nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev
  libboost-context-dev libxxhash-dev liburing-dev uuid-dev
)
TEST_PACKAGES=(
  libgtest-dev libgmock-dev scdoc ccache
  python3-pytest python3-pytest-xdist
  acl attr e2fsprogs xfsprogs btrfs-progs util-linux procps
  sqlite3 fio rsync git postgresql stress-ng
)

step() { printf '\n== %s\n' "$*"; }

# fail WHAT DO: what went wrong, and what to do about it.
fail() {
  printf '\nfailed: %s\n  what to do: %s\n' "$1" "$2" >&2
  exit 1
}

# Installs those of the packages that are missing.
need_packages() {
  if ! command -v apt-get >/dev/null; then
    echo "no apt-get here: expecting what these packages hold: $*"
    return
  fi
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
      grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    echo "all packages are here"
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    fail "packages are missing" "sudo apt-get install ${missing[*]}"
  fi
  echo "apt-get install ${missing[*]}"
  apt-get update -q ||
    fail "apt-get update" "look at the network and /etc/apt/sources.list"
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
    --no-install-recommends "${missing[@]}" ||
    fail "apt-get install" "install by hand: ${missing[*]}"
}

# build_in DIR TARGETS [MESON OPTIONS...]: TARGETS are one word for ninja, or
# empty for all.
build_in() {
  local dir=$1 targets
  read -r -a targets <<<"$2"
  shift 2
  if [ ! -f "$dir/build.ninja" ]; then
    echo "meson setup $dir $*"
    meson setup "$dir" "$@" ||
      fail "meson setup $dir" "read $dir/meson-logs/meson-log.txt"
  elif [ $# -gt 0 ]; then
    meson configure "$dir" "$@" ||
      fail "meson configure $dir" "remove $dir and start again"
  fi
  echo "ninja -C $dir ${targets[*]}"
  ninja -C "$dir" "${targets[@]}" ||
    fail "the build in $dir" "mend the first error above; ninja -C $dir goes on"
}
