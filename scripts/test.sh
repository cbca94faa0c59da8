#!/bin/bash
# Builds and runs every test. The last line is `N passed, N failed[, N skipped]`, counted over single cases.
#
# Stages: release (all tests), asan-ubsan and tsan (the tests that fit them), fuzz (each target for FUZZ_SECONDS),
# package (builds, installs, tries and removes the .deb). One build by clang, the preset fuzz, serves asan-ubsan, the
# fuzz targets and the check of locks (-Wthread-safety); the preset asan-ubsan is g++'s and for developers.
# `scripts/test.sh release tsan` runs only those two.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

jobs=${JOBS:-$(nproc)}
fuzz_seconds=${FUZZ_SECONDS:-12}
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(release asan-ubsan tsan fuzz package)

export CCACHE_DEPEND=1  # a miss costs no preprocessing besides the compiler's own

out=$PWD/build/test-results
rm -rf "$out"
mkdir -p "$out"

build() { # PRESET TARGETS...
  local preset=$1
  shift
  run_quietly "$out/$preset-configure.log" cmake --preset "$preset" &&
    run_quietly "$out/$preset-build.log" cmake --build --preset "$preset" -j "$jobs" ${*:+--target "$@"}
}

# Runs ctest in a preset's build and prints "PASSED FAILED SKIPPED", counted over cases. Further arguments go to ctest.
run_ctest() { # PRESET ARGS... (build_dir: where the tests are, if not in the preset's build)
  local preset=$1 status=0
  local tests=${build_dir:-$1}
  shift
  # Without address randomisation: with as many random bits as today's kernels use, g++ 12's TSan cannot map its shadow.
  setarch -R ctest --test-dir "build/$tests" --output-junit "$out/$preset.xml" --output-on-failure --no-tests=error -j "$jobs" \
    --test-output-size-passed 50000000 --test-output-size-failed 50000000 "$@" > "$out/$preset-ctest.log" 2>&1 || status=$?
  python3 scripts/count_tests.py "$out/$preset.xml" --ctest-status "$status" --log "$out/$preset-ctest.log"
}

# A sanitized build has unit tests of its own; the tests on real mounts are the release build's, run with the sanitized
# binary. Sanitizers slow real mounts down several times: whole programs, tests that measure time or memory, and the
# runs on kernel overlayfs, which has none of our code in it, stay out. So does the plain user, whose mount differs from
# that of a user namespace only in who made it, and io_uring or /dev/fuse where the other one does; random tests take
# half the time. A daemon's stderr goes nowhere, so what a sanitizer has to say is collected in files; each counts as a
# failure.
sanitized() { # STAGE PRESET LEFT-OUT
  build release && build "$2" vellum base_tests sys_tests fuse_tests overlay_tests views_tests erofs_tests composefs_tests || return 1
  local passed=0 failed=0 skipped=0 p f s counts
  # Plain users' daemons write here too, and a sanitizer that cannot write its report ends the program.
  local place reports
  place=$(mktemp -d /var/tmp/vellum-reports.XXXXXX)
  chmod 1777 "$place"
  reports=$place/$1-report
  # clang's runtime names functions by a program that Debian's clang does not bring along; binutils' does it too.
  local common
  common=log_path=$reports:external_symbolizer_path=$(command -v llvm-symbolizer-19 || command -v addr2line)
  export ASAN_OPTIONS="$common" UBSAN_OPTIONS="$common:print_stacktrace=1"
  # Lock order is stated in overlay/locking.h. TSan learns an order per lock, and a node's lock changes its role when a
  # slot is used again, so what it says of inversions is noise.
  export TSAN_OPTIONS="log_path=$reports:halt_on_error=0:detect_deadlocks=0"
  for counts in "$(build_dir=$2 run_ctest "$1" -R 'unit\.(base|sys|fuse|overlay|views|erofs|composefs)$')" \
    "$(build_dir=release VELLUM_BIN=$PWD/build/$2/bin/vellum VELLUM_TEST_SHORTER=2 \
      run_ctest "$1-mounts" -L integration -LE no-sanitizers -E "kernel|scale|ext4|cases\.vellum-user\$|$3")"; do
    [ -n "$counts" ] || counts="0 1 0"  # nothing ran: a mistake of this script, or no ctest
    read -r p f s <<< "${counts##*$'\n'}"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  done
  local found
  find "$place" -type f -exec cp {} "$out/" \;
  rm -rf "$place"
  found=$(find "$out" -name "$1-report*" | wc -l)
  if [ "$found" -gt 0 ]; then
    echo "${red}$found sanitizer reports:${plain} $out/$1-report*" >&2
    find "$out" -name "$1-report*" -exec head -n 40 {} + | head -n 200 >&2
  fi
  echo "$passed $((failed + found)) $skipped"
}

stage_release() { build release && run_ctest release; }
stage_asan-ubsan() { sanitized asan-ubsan fuzz 'uring'; }
stage_tsan() { sanitized tsan tsan 'cases\.vellum-root$'; }  # io_uring runs the same cases, a user namespace /dev/fuse
stage_package() { run_quietly "$out/package.log" scripts/test-package.sh && echo "1 0 0"; }

stage_fuzz() {
  run_quietly "$out/fuzz-configure.log" cmake --preset fuzz || return 1
  local log=$out/fuzz.log
  tests/fuzz/run.sh "$fuzz_seconds" build/fuzz > "$log" 2>&1 || cat "$log" >&2
  echo "$(grep -c ': nothing found in' "$log") $(grep -c ': FAILED' "$log") 0"
}

# In a function, so that bash has read all of it before the tests begin.
main() {
  total_passed=0 total_failed=0 total_skipped=0
  report=''
  started=$SECONDS
  for stage in "${stages[@]}"; do
    declare -F "stage_$stage" > /dev/null || { echo "no such stage: $stage" >&2; exit 2; }
    echo "${bold}${blue}== $stage${plain}"
    stage_started=$SECONDS
    if ! counts=$("stage_$stage"); then
      # A stage that broke down before it could count anything.
      counts=${counts##*$'\n'}
      [[ $counts =~ ^[0-9]+\ [0-9]+\ [0-9]+$ ]] || counts='0 1 0'
    fi
    read -r passed failed skipped <<< "${counts##*$'\n'}"
    [ $((passed + failed)) -gt 0 ] || failed=1  # a stage that tried nothing
    total_passed=$((total_passed + passed)) total_failed=$((total_failed + failed)) total_skipped=$((total_skipped + skipped))
    colour=$green
    [ "$failed" -eq 0 ] || colour=$red
    line=$(printf '%-12s %6d passed %6d failed %6d skipped %8s' "$stage" "$passed" "$failed" "$skipped" "$(minutes $((SECONDS - stage_started)))")
    report+="  $colour$line$plain"$'\n'
    echo "   $colour$line$plain"
  done

  echo
  echo "${bold}Summary${plain} (logs: build/test-results)"
  printf '%s' "$report"
  echo "  in all $(minutes $((SECONDS - started)))"
  echo
  verdict=0
  if [ "$total_failed" -gt 0 ] || [ "$total_passed" -eq 0 ]; then verdict=1; fi
  if [ "$verdict" -eq 0 ]; then echo "${green}${bold}All tests hold.${plain}"; else echo "${red}${bold}Some tests failed.${plain}"; fi
  last="$total_passed passed, $total_failed failed"
  [ "$total_skipped" -eq 0 ] || last+=", $total_skipped skipped"
  echo "$last"
  exit "$verdict"
}
main
