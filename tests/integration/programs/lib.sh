# Shared by the program tests: a private place to mount in, overlays by any backend, and checks that are counted.
#
# Sourcing this runs the script again inside its own pid and mount namespace with a tmpfs at /mnt (SPACE in size),
# so that daemons and mounts end with it, however it ends. Its last line is `N passed, N failed`.
#
#   VELLUM_TEST_BACKEND   vellum (default), kernel or peer
#   VELLUM_BIN            our binary; otherwise the script's first argument
#   VELLUM_TEST_CACHE     where the Debian root is kept between runs, default /var/cache/vellum-tests
set -uo pipefail

if [ -z "${VELLUM_IN_SANDBOX:-}" ]; then
  [ "$(id -u)" -eq 0 ] || { echo "these tests mount things and need root"; exit 1; }
  export VELLUM_IN_SANDBOX=1
  exec unshare --mount --pid --fork --mount-proc --kill-child=KILL --propagation private bash "$0" "$@"
fi

backend=${VELLUM_TEST_BACKEND:-vellum}
binary=${VELLUM_BIN:-${1:-}}
binary=${binary:+$(realpath -m "$binary")}
cache=${VELLUM_TEST_CACHE:-/var/cache/vellum-tests}
room=/mnt/room
passed=0 failed=0

mount -t tmpfs -o "size=${SPACE:-4g},mode=755" tmpfs /mnt
mkdir -p $room/bin $room/log
cd $room
export LC_ALL=C.UTF-8 HOME=$room/home TMPDIR=$room/tmp GIT_CONFIG_NOSYSTEM=1
mkdir -m 755 "$HOME"
mkdir -m 1777 "$TMPDIR"

finish() {
  cd /
  for mountpoint in "${mountpoints[@]}"; do
    mountpoint -q "$mountpoint" && check "unmount $mountpoint" umount "$mountpoint"
  done
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] || exit 1
  exit 0
}
mountpoints=()
trap finish EXIT

# The drop-in as container tools see it: a program called fuse-overlayfs.
case $backend in
  vellum)
    [ -x "$binary" ] || { echo "not a program: '$binary'; usage: $0 BINARY"; failed=1; exit 1; }
    mount_program=$room/bin/fuse-overlayfs
    ln -s "$binary" "$mount_program"
    ;;
  peer) mount_program=/usr/bin/fuse-overlayfs ;;
  kernel) mount_program="" ;;
  *) echo "no such backend: $backend"; failed=1; exit 1 ;;
esac

# check WHAT-HOLDS COMMAND...: runs it, shows its output only if it fails.
check() {
  local what=$1 start=${EPOCHREALTIME/./} status=0 verdict=ok milliseconds
  shift
  "$@" > $room/log/last 2>&1 || status=$?
  [ "$status" -eq 0 ] || verdict=FAILED
  milliseconds=$(((${EPOCHREALTIME/./} - start) / 1000))
  printf '%-7s %3d.%03d s  %s\n' $verdict $((milliseconds / 1000)) $((milliseconds % 1000)) "$what"
  if [ "$status" -eq 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "    status $status: $*"
    tail -n 30 $room/log/last | sed 's/^/    /'
  fi
  return "$status"
}
equal() { [ "$1" = "$2" ] || { printf 'got: %s\nexpected: %s\n' "$1" "$2"; return 1; }; }

# overlay NAME LOWER[:LOWER...]: mounts at $room/NAME; upper and work directories stand beside it.
overlay() {
  local name=$1 lowers=$2 options
  mkdir -p "$room/$name" "$room/$name.upper" "$room/$name.work"
  # The merged root is the upper one: it looks like the lower one here.
  touch -r "${lowers%%:*}" "$room/$name.upper"
  options="lowerdir=$lowers,upperdir=$room/$name.upper,workdir=$room/$name.work"
  if [ "$backend" = kernel ]; then
    check "mount $name" mount -t overlay overlay -o "$options" "$room/$name" || exit 1
  else
    check "mount $name" "$mount_program" -o "$options,suid,dev" "$room/$name" || exit 1
  fi
  mountpoints=("$room/$name" "${mountpoints[@]}")
}

# The type, mode, owner, size, links and content of everything below a directory, as text to compare.
tree_text() {
  (cd "$1" && find . -mindepth 1 \( -type d -printf '%p %y %m %U:%G\n' \) -o \
    \( -not -type d -printf '%p %y %m %U:%G %s %n %l\n' \) | sort)
  (cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}
same_tree() { diff <(tree_text "$1") <(tree_text "$2"); }

# Path of a minimal Debian root; made once with the machine's own mirror and kept in the cache.
debian_root() {
  local root=$cache/bookworm mirror
  if [ ! -e "$root/etc/debian_version" ]; then
    mirror=$(sed -nE 's/^(URIs:|deb( \[[^]]*\])?) *(http[^ ]*debian\/?)( .*)?$/\3/p' \
      /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null | grep -v security | head -n 1)
    mkdir -p "$cache"
    (
      flock 9
      [ -e "$root/etc/debian_version" ] && exit 0
      for _ in 1 2 3; do  # a mirror may fail for a moment
        rm -rf "$root.new"
        debootstrap --variant=minbase bookworm "$root.new" "${mirror:-http://deb.debian.org/debian}" > "$room/log/debootstrap" 2>&1 &&
          exec mv "$root.new" "$root"
      done
      exit 1
    ) 9> "$cache/lock" || { tail -n 20 "$room/log/debootstrap" >&2; return 1; }
  fi
  echo "$root"
}

# Runs a command while nobody drops the machine's caches (support/caches_lock.h): for what counts requests.
caches_kept() { { flock -s 9 && "$@"; } 9>> /run/lock/vellum-test-caches; }

# within SECONDS COMMAND...: waits until it succeeds.
within() { local seconds=$1; shift; for _ in $(seq $((seconds * 10))); do "$@" > /dev/null 2>&1 && return 0; sleep 0.1; done; "$@"; }

# For check: what a command says, with its errors; and a command that must fail.
says() { local wanted=$1; shift; equal "$("$@" 2>&1)" "$wanted"; }
# refused ERROR COMMAND...: it fails, and says that.
refused() {
  local error=$1 said
  shift
  said=$("$@" 2>&1) && { echo "not refused: $said"; return 1; }
  [[ $said == *"$error"* ]] || { echo "refused otherwise: $said"; return 1; }
}
