#!/bin/bash
# Installs the Debian 12 packages that vellum needs; does nothing, quickly, when they are all there.
# Usage: scripts/install-deps.sh [build|test|bench|all]
set -euo pipefail

build_packages=(
  make cmake ninja-build g++ ccache pkg-config git ca-certificates
  libfmt-dev libspdlog-dev libcli11-dev libabsl-dev nlohmann-json3-dev liburing-dev libssl-dev libxxhash-dev
  libgtest-dev libgmock-dev libacl1-dev libbenchmark-dev
  fuse3 attr dpkg-dev
)
test_packages=(
  clang-19 clang-tidy-19 libclang-rt-19-dev clang-format
  fuse-overlayfs buildah debootstrap sqlite3 libsqlite3-dev rsync stress-ng
  acl libcap2-bin uidmap squashfs-tools xfsprogs btrfs-progs e2fsprogs erofs-utils
  tar file python3 util-linux man-db
)
bench_packages=(fuse-overlayfs unionfs-fuse gnuplot-nox)

case "${1:-all}" in
  build) wanted=("${build_packages[@]}") ;;
  test) wanted=("${test_packages[@]}") ;;
  bench) wanted=("${bench_packages[@]}") ;;
  all) wanted=("${build_packages[@]}" "${test_packages[@]}") ;;
  *) echo "usage: $0 [build|test|bench|all]" >&2; exit 2 ;;
esac

if ! command -v apt-get > /dev/null; then
  echo "install-deps: this is not a Debian system; install these by hand: ${wanted[*]}" >&2
  exit 1
fi

missing=()
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${wanted[@]}" 2> /dev/null || true)
for package in "${wanted[@]}"; do
  grep -qx "$package installed" <<< "$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "install-deps: these packages are missing, and only root can install them:" >&2
  echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

echo "Installing ${#missing[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get -o Acquire::Retries=5 update && apt-get -o Acquire::Retries=5 install -y --no-install-recommends "${missing[@]}"; } > "$log" 2>&1; then
  cat "$log" >&2
  echo "install-deps: apt-get failed (above). vellum is built and tested on Debian 12 (bookworm)." >&2
  exit 1
fi
