#!/bin/bash
# A Debian system as an image, mounted in each of the three ways: programs run in it, and nothing differs from the
# original.
SPACE=8g
source "$(dirname "$0")/lib.sh"
root=$(debian_root) || { failed=1; exit 1; }
mkdir store m up work
check "an image and its objects" "$mkcomposefs" --digest-store=store "$root" image
check "every object is right" "$binary" image verify --basedir store image
check "as many objects as the image names" equal "$("$binary" image info image | sed -n 's/^ *objects *//p')" "$(objects_of store | wc -l)"

differences() { rsync --dry-run --archive --acls --xattrs --checksum --delete --itemize-changes "$root/" m/; }
for way in --fuse=no --fuse=yes --standalone; do
  check "$way: mount" "$mount_composefs" $way -o basedir=store image m || continue
  check "$way: programs run" says 42 chroot m perl -e 'print 6 * 7'
  check "$way: the package manager finds its files" says "" chroot m dpkg --audit
  check "$way: nothing differs" says "" differences
  check "$way: unmount" umount m
done
check "writable: mount" "$mount_composefs" -o "basedir=store,upperdir=up,workdir=work" image m
check "writable: a package is removed" chroot m dpkg --force-all --purge tzdata
check "writable: its files are gone" sh -c '[ ! -e m/usr/share/zoneinfo/UTC ]'
check "writable: unmount" umount m
check "every object is still right" "$binary" image verify --basedir store image
check "no server stays" no_server
