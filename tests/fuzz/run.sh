#!/bin/sh
# Runs each fuzz target for a bounded time: run.sh SECONDS [BUILD_DIRECTORY]
# Non-zero if one finds something; what it found lies in BUILD_DIRECTORY/fuzz-findings/.
set -eu
seconds=${1:?usage: run.sh SECONDS [BUILD_DIRECTORY]}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${2:-$root/build/fuzz}
[ -f "$build/build.ninja" ] || (cd "$root" && cmake --preset fuzz)
status=0
for corpus in "$here"/corpus/*/; do
  target=$(basename "$corpus")
  cmake --build "$build" --target "$target" -j 2 >/dev/null
  binary=$(find "$build" -type f -name "$target" -perm -u+x | head -n 1)
  # What is found new goes to a scratch corpus; the committed one is only read.
  scratch="$build/fuzz-corpus/$target"
  findings="$build/fuzz-findings/$target"
  mkdir -p "$scratch" "$findings"
  log="$build/fuzz-findings/$target.log"
  if "$binary" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -close_fd_mask=3 \
    -artifact_prefix="$findings/" "$scratch" "$corpus" >"$log" 2>&1; then
    echo "$target: nothing found in $seconds s, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs"
  else
    echo "$target: FAILED; input in $findings, the end of $log:"
    tail -n 30 "$log"
    status=1
  fi
done
exit $status
