#!/bin/bash
# Builds the .deb, installs it, mounts with it, removes it, and looks for what is left. Also checks where
# `cmake --install` puts things. Needs root and a machine on which no vellum package is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "test-package: $*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fail "only root can install packages"
installed() { dpkg-query -W -f='${db:Status-Status}' vellum 2> /dev/null | grep -qx installed; }
ours=/run/vellum-package-test  # is there while the package installed is one of this script's
if [ -e "$ours" ] && installed; then dpkg --purge vellum > /dev/null; fi
! installed || fail "a vellum package is installed already"

deb=$(scripts/make-deb.sh)
room=$(mktemp -d)
cleanup() {
  mountpoint -q "$room/merged" && umount "$room/merged"
  dpkg --purge vellum > /dev/null 2>&1 || true
  rm -rf "$room" "$ours"
}
trap cleanup EXIT

dpkg-deb -f "$deb" Depends | grep -q fuse3 || fail "the package does not depend on fuse3"
dpkg-deb -f "$deb" Depends | grep -q libc6 || fail "the package names no shared libraries"
touch "$ours"
dpkg -i "$deb" > /dev/null

vellum --version | grep -q '^vellum ' || fail "vellum --version"
drop_in=/usr/libexec/vellum/bin/fuse-overlayfs
"$drop_in" --version | head -n 1 | grep -q '^fuse-overlayfs: version ' || fail "$drop_in --version"
for file in /usr/share/man/man1/vellum-overlay.1 /usr/share/bash-completion/completions/vellum \
  /usr/share/zsh/vendor-completions/_vellum /usr/sbin/mount.vellum; do
  [ -e "$file" ] || fail "$file is missing"
done

mkdir "$room"/{lower,upper,work,merged}
echo old > "$room/lower/file"
mount -t vellum overlay "$room/merged" -o "lowerdir=$room/lower,upperdir=$room/upper,workdir=$room/work"
[ "$(cat "$room/merged/file")" = old ] || fail "the mount shows something else than its layer"
echo new > "$room/merged/file"
[ "$(cat "$room/lower/file")" = old ] && [ "$(cat "$room/upper/file")" = new ] || fail "a change went to the wrong layer"
vellum stats "$room/merged" > /dev/null || fail "vellum stats"
umount "$room/merged"

dpkg --purge vellum > /dev/null
left=$(dpkg-deb -c "$deb" | awk '$1 !~ /^d/ { print substr($6, 2) }' | while read -r path; do [ ! -e "$path" ] || echo "$path"; done)
[ -z "$left" ] || fail "left behind after removal: $left"

DESTDIR=$room/dest cmake --install build/release --prefix /usr > /dev/null
for path in bin/vellum libexec/vellum/bin/fuse-overlayfs include/vellum/fuse/filesystem.h include/vellum/overlay/options.h \
  share/man/man1/vellum.1 share/zsh/site-functions/_vellum share/fish/vendor_completions.d/vellum.fish; do
  [ -e "$room/dest/usr/$path" ] || fail "cmake --install left out $path"
done
echo "$deb installs, mounts, and goes without a trace"
