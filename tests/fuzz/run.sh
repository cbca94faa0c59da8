#!/bin/sh
# Runs each fuzz target for a bounded time, two at once: run.sh SECONDS [BUILD_DIRECTORY]
# Non-zero if one finds something; what it found lies in BUILD_DIRECTORY/fuzz-findings/.
set -eu
seconds=${1:?usage: run.sh SECONDS [BUILD_DIRECTORY]}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${2:-$root/build/fuzz}
[ -f "$build/build.ninja" ] || (cd "$root" && cmake --preset fuzz)
targets=$(cd "$here/corpus" && echo *)
mkdir -p "$build/fuzz-findings"
# shellcheck disable=SC2086 # one word for each
cmake --build "$build" --target $targets -j "${JOBS:-$(nproc)}" >"$build/fuzz-findings/build.log" 2>&1 ||
  { tail -n 80 "$build/fuzz-findings/build.log"; exit 1; }

fuzz() {
  target=$1
  corpus=$here/corpus/$target
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
    return 1
  fi
}

status=0
set -- $targets
while [ $# -gt 0 ]; do
  beside=
  if [ $# -gt 1 ]; then
    fuzz "$2" >"$build/fuzz-findings/beside" &
    beside=$!
  fi
  fuzz "$1" || status=1
  if [ -n "$beside" ]; then
    wait "$beside" || status=1
    cat "$build/fuzz-findings/beside"
    shift
  fi
  shift
done
exit $status
