#!/bin/bash
# Makes build/deb/vellum_VERSION_ARCH.deb from the release build and prints its path. Arguments go to cmake,
# e.g. -DVELLUM_PEER_LINKS_IN_BIN=ON.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset release "$@" > /dev/null
cmake --build --preset release -j "${JOBS:-$(nproc)}" --target vellum > /dev/null
rm -rf build/deb
(cd build/release && cpack -G DEB -B "$PWD/../deb" > ../cpack.log) || { cat build/cpack.log >&2; exit 1; }
rm -rf build/deb/_CPack_Packages
ls build/deb/*.deb
