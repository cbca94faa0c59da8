#!/bin/bash
# Runs clang-tidy-19 over the sources named, or over all of src/. Needs the clang preset's compile commands.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset clang > /dev/null
if [ $# -gt 0 ]; then files=("$@"); else mapfile -t files < <(git ls-files 'src/*.cc'); fi
printf '%s\n' "${files[@]}" | xargs -P "${JOBS:-$(nproc)}" -n 1 clang-tidy-19 --quiet -p build/clang
