#!/bin/bash
# Brings our C++ files into shape with clang-format 14, Debian 12's own. With --check: only tells, exit 1 if not.
set -euo pipefail
cd "$(dirname "$0")/.."
formatter=${CLANG_FORMAT:-clang-format}

mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*.h' '*.cc')
if [ "${1:-}" = --check ]; then
  exec "$formatter" --dry-run --Werror "${files[@]}"
fi
"$formatter" -i "${files[@]}"
