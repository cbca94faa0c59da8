#!/bin/bash
# Builds vellum and shows an overlay at work on real trees: a git repository, and (as root) this machine's own
# Debian. Checks what it shows; the last line is the verdict. Cleans up after itself, always.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

failures=0
title() { printf '\n%s%s%s\n' "$bold$blue" "$*" "$plain"; }
say() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
# Prints a command as one would type it, and runs it.
show() {
  printf '%s$%s %s\n' "$cyan" "$plain" "$*"
  (cd "$room" && eval "$*") 2>&1 | sed 's/^/  /'
  return "${PIPESTATUS[0]}"
}
# check WHAT-HOLDS COMMAND...
check() {
  local what=$1
  shift
  if (cd "$room" && "$@") > /dev/null 2>&1; then
    printf '  %s✓%s %s\n' "$green" "$plain" "$what"
  else
    printf '  %s✗ %s%s\n' "$red$bold" "$what" "$plain"
    failures=$((failures + 1))
  fi
}
same() { [ "$1" = "$2" ]; }

# What landed in an upper directory, each kind with its own mark.
explain_upper() {
  local kind path mark colour words shown=0 found
  # Whiteouts first; git's own objects are left out.
  found=$(cd "$1" && find . -mindepth 1 ! -type d ! -path '*/.git/*' -printf '%y %P\n' | sort)
  while read -r kind path; do
    mark=+ colour=$green words='new, or copied up and changed'
    [ "$kind" != c ] || { mark=− colour=$red words='a whiteout: hides the name below'; }
    [[ ${path##*/} != .wh.* ]] || { mark=− colour=$red words='a whiteout: hides the name below'; }
    printf '  %s%s%s %-40s %s%s%s\n' "$colour" "$mark" "$plain" "$path" "$dim" "$words" "$plain"
    shown=$((shown + 1))
    [ "$shown" -lt 10 ] || break
  done <<< "$found"
  local all
  all=$(wc -l <<< "$found")
  [ "$all" -le "$shown" ] || say "  … and $((all - shown)) more"
}

room=''
cleanup() {
  [ -n "$room" ] || return 0
  cd /
  # Mounts within the room, the innermost first.
  awk -v room="$room/" 'index($5, room) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
    umount -l "$mount" 2> /dev/null || fusermount3 -uz "$mount" 2> /dev/null
  done
  mountpoint -q "$room" && umount -l "$room"
  rm -rf --one-file-system "$room"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

started=$SECONDS
title "Building"
log=$(mktemp)
cmake --preset release > "$log" 2>&1 && cmake --build --preset release --target vellum -j "${JOBS:-$(nproc)}" >> "$log" 2>&1 || {
  tail -n 40 "$log" >&2
  rm -f "$log"
  echo "${red}${bold}DEMO FAILED${plain}: vellum does not build"
  exit 1
}
rm -f "$log"
PATH=$PWD/build/release/bin:$PATH
here=$PWD
room=$(mktemp -d -t vellum-demo.XXXXXX)
[ "$(id -u)" -ne 0 ] || mount -t tmpfs vellum-demo "$room"
export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@example.org GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@example.org
show vellum --version

title "1. A git repository, changed without touching it"
mkdir -p "$room"/{lower,upper,work,merged}
if ! git -c safe.directory='*' clone --quiet "$here" "$room/lower/repo" 2> /dev/null; then
  mkdir "$room/lower/repo"
  tar -C "$here" --exclude=./build --exclude=./.git -cf - . | tar -C "$room/lower/repo" -xf -
  (cd "$room/lower/repo" && git init --quiet && git add -A && git commit --quiet -m "As it came")
fi
# git trusts a file's time stamp only once it is older than its index: have it look now, not later through the mount.
sleep 1
git -C "$room/lower/repo" update-index --refresh > /dev/null
before=$(cd "$room/lower" && find . -printf '%p %m %s %T@\n' | sort | sha256sum)
show fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work merged
check "the mount is there" mountpoint -q merged
check "it shows what the lower layer has" diff -r lower merged
show "echo 'Seen through an overlay.' >> merged/repo/README.md"
show rm merged/repo/CHANGELOG.md
show chmod 600 merged/repo/LICENSE
show "git -C merged/repo commit --quiet --all -m 'A change of mine' && git -C merged/repo log --oneline -2"
check "git finds its repository sound" git -C merged/repo fsck
check "and its work tree clean" bash -c '[ -z "$(git -C merged/repo status --porcelain)" ]'
say "What landed in upper/ (git's own objects left out):"
explain_upper "$room/upper"
check "the lower layer is as it was, to the last time stamp" \
  same "$before" "$(cd "$room/lower" && find . -printf '%p %m %s %T@\n' | sort | sha256sum)"

title "2. Looking inside while it runs"
show "vellum stats merged | head -n 14"
check "the counters can be read" vellum stats merged

title "3. Unmounted and mounted again, everything is still there"
head=$(git -C "$room/merged/repo" rev-parse HEAD)
show fusermount3 -u merged
check "nothing is mounted" bash -c '! mountpoint -q merged'
show fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work merged
check "the commit is there" same "$head" "$(git -C "$room/merged/repo" rev-parse HEAD)"
check "the removed file is gone" bash -c '! [ -e merged/repo/CHANGELOG.md ]'
check "the new mode is kept" same 600 "$(stat -c %a "$room/merged/repo/LICENSE")"
show fusermount3 -u merged

title "4. This machine's own Debian, with a package installed in it"
if [ "$(id -u)" -ne 0 ]; then
  say "Left out: only root may chroot. Try it with: sudo make demo"
else
  mkdir -p "$room"/{debian,upper4,work4,root,pkg/DEBIAN,pkg/usr/bin}
  mount --bind / "$room/debian"
  printf 'Package: vellum-demo\nVersion: 1\nArchitecture: all\nMaintainer: demo <demo@example.org>\nDescription: a demo\n' > "$room/pkg/DEBIAN/control"
  printf '#!/bin/sh\necho "hello from a package that only the overlay has"\n' > "$room/pkg/usr/bin/vellum-demo"
  chmod 755 "$room/pkg/usr/bin/vellum-demo"
  dpkg-deb --root-owner-group --build "$room/pkg" "$room/demo.deb" > /dev/null
  show fuse-overlayfs -o dev,lowerdir=debian,upperdir=upper4,workdir=work4 root
  cp "$room/demo.deb" "$room/root/tmp/demo.deb"
  show "chroot root dpkg -i /tmp/demo.deb"
  show chroot root vellum-demo
  show chroot root useradd vellum-demo
  show rm -r root/usr/share/common-licenses
  check "the package is installed in the mount" chroot root dpkg -s vellum-demo
  check "and not on this machine" bash -c '! dpkg -s vellum-demo'
  check "the user exists in the mount" chroot root id vellum-demo
  check "and not on this machine" bash -c '! id vellum-demo'
  check "dpkg finds the files of a package that was there before sound" chroot root dpkg --verify coreutils
  check "the removed directory is gone there" bash -c '! [ -e root/usr/share/common-licenses ]'
  check "and here it is not" test -d /usr/share/common-licenses
  say "What landed in upper4/:"
  explain_upper "$room/upper4"
  show umount root
  check "nothing is left mounted" bash -c '! mountpoint -q root'
fi

echo
if [ "$failures" -eq 0 ]; then
  echo "${green}${bold}DEMO OK${plain}: an overlay held everything, and the layers below never changed ($(minutes $((SECONDS - started))))"
else
  echo "${red}${bold}DEMO FAILED${plain}: $failures checks did not hold"
  exit 1
fi
