#!/bin/bash
# Builds the bench and a release of ours, and measures: tables, JSON and a chart in bench/results/latest.* (with --quick: quick.*)
# Usage: scripts/bench.sh [vellum-bench's arguments…]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_quietly "$log" cmake --preset bench
run_quietly "$log" cmake --build --preset bench --target vellum vellum_bench -j "${JOBS:-$(nproc)}"

mkdir -p bench/results
# A look is not a result: it must not take the place of one.
name=latest
[[ " $* " != *" --quick "* ]] || name=quick
build/bench/bin/vellum-bench --binary build/bench/bin/vellum --json "bench/results/$name.json" \
  --text "bench/results/$name.txt" --chart "bench/results/$name.svg" --ours vellum-uring=io_uring=1 "$@"
echo
echo "${bold}Also in${plain} bench/results/: $name.txt $name.json $name.svg"
