#!/bin/bash
# One tree through an image and back, mounted in each way by everybody who may: nothing is lost, nothing is added.
source "$(dirname "$0")/lib.sh"
make_tree src; mkdir store m
check "make the image" "$mkcomposefs" --digest-store=store src image || exit 1
digest=$("$mkcomposefs" --print-digest-only src)

# mounted WAY OPTIONS...: mounts, and says how.
mounted() { "$mount_composefs" "$@" && mountpoints=(m); }
shown_type() { awk -v m="$room/m" '$2 == m {print $3}' /proc/mounts; }
names_before_the_first() { ! stat 'm/many/ ' 'm/many/!0' m/many/zzz 'm/many/~~' 2> /dev/null && stat 'm/many/!1' 'm/many/~last'; }
read_only() { refused "Read-only" touch m/new && refused "Read-only" rm m/big && refused "Read-only" setfattr -n user.x m/big; }

for way in "--fuse=no overlay" "--fuse=yes overlay" "--standalone fuse.composefs" "--fuse=auto overlay"; do
  read -r option type <<< "$way"
  check "root, $option: mount" mounted "$option" -o basedir=store image m || continue
  check "root, $option: is $type" says "$type" shown_type
  check "root, $option: the tree is the same" same src m
  check "root, $option: the tree is the same, once more" same src m
  check "root, $option: makes the same image again" says "$digest" "$mkcomposefs" --print-digest-only m
  check "root, $option: names beside those that are there" names_before_the_first
  check "root, $option: read-only" read_only
  check "root, $option: mapped memory" python3 -c 'import mmap; f = open("m/big", "rb"); assert mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:] == open("src/big", "rb").read()'
  check "root, $option: users see it too" as_user cmp src/big m/big
  check "root, $option: unmount" umount m
  mountpoints=()
  check "root, $option: no server stays" no_server
done
check "standalone, everything checked: mount" mounted --standalone -o basedir=store,verity image m
check "standalone, everything checked: the tree is the same" same src m
umount m; mountpoints=()

# Layers that an overlay of the real root would take for whiteouts.
mkdir -p white/d; mknod white/d/gone c 0 0; mknod white/top c 0 0; echo x > white/d/stays
check "an image with whiteouts" "$mkcomposefs" --digest-store=store white image.white
mkdir lower m.over; mkdir lower/d; echo lower > lower/d/gone; echo lower > lower/top; echo lower > lower/d/also
kernel=""
for option in --fuse=no --fuse=yes --standalone; do
  check "whiteouts, $option: mount" mounted "$option" -o basedir=store image.white m || continue
  check "whiteouts, $option: shown as empty files" says "regular empty file" stat -c %F m/d/gone
  lines=$(python3 "$here/tree.py" --trusted m)
  check "whiteouts, $option: as the kernel shows them" equal "$lines" "${kernel:=$lines}"
  mount -t overlay overlay -o lowerdir=m:lower m.over
  check "whiteouts, $option: hide what lies below an overlay of it" equal "$(cd m.over && find . -type f | sort)" "$(printf './d/also\n./d/stays')"
  umount m.over m; mountpoints=()
done

# Root of a user namespace: nothing but what it maps, and no trusted xattrs.
cat > in-namespace.sh <<END
set -e
$mount_composefs "\$@" -o basedir=store image m
trap 'umount m' EXIT
diff <(python3 $here/tree.py --no-owners src) <(python3 $here/tree.py --no-owners m)
! stat 'm/many/ ' 2> /dev/null
grep " $room/m " /proc/mounts | cut -d' ' -f3
END
check "user namespace, auto: FUSE below overlayfs" says overlay in_namespace bash in-namespace.sh
check "user namespace, --fuse=yes" says overlay in_namespace bash in-namespace.sh --fuse=yes
check "user namespace, standalone" says fuse.composefs in_namespace bash in-namespace.sh --standalone
check "user namespace, standalone, checked" says fuse.composefs in_namespace bash in-namespace.sh --standalone --verity
check "user namespace, the kernel alone" refused "CAP_SYS_ADMIN" in_namespace bash in-namespace.sh --fuse=no
cat > white-in-namespace.sh <<END
set -e
$mount_composefs -o basedir=store image.white m
[ "\$(stat -c %F m/d/gone m/top | sort -u)" = "regular empty file" ]
[ "\$(getfattr --absolute-names -n user.overlay.whiteout m/d/gone | wc -l)" = 3 ]
mount -t overlay overlay -o userxattr,lowerdir=m:lower m.over
(cd m.over && find . -type f | sort)
umount m.over m
END
check "user namespace, whiteouts hide what lies below an overlay of it" says $'./d/also\n./d/stays' in_namespace bash white-in-namespace.sh
check "user namespace: no server stays" no_server

# Somebody with no rights at all.
mkdir m.user u w; chown 1000:1000 m.user
as_user_script() { as_user bash -c "set -e; $mount_composefs $1 -o basedir=store image m.user; trap 'fusermount3 -u m.user' EXIT; diff <(python3 $here/tree.py src) <(python3 $here/tree.py m.user); grep ' $room/m.user ' /proc/mounts | cut -d' ' -f3"; }
check "plain user, auto: FUSE alone" says fuse.composefs as_user_script ""
check "plain user, standalone, checked" says fuse.composefs as_user_script "--standalone --verity"
check "plain user, upperdir" refused "upperdir needs overlayfs" as_user "$mount_composefs" -o basedir=store,upperdir=u,workdir=w image m.user
check "plain user: no server stays" no_server

# Changes on top.
for option in --fuse=no --fuse=yes; do
  mkdir upper work
  check "writable, $option: mount" mounted "$option" -o basedir=store,upperdir=upper,workdir=work image m || continue
  check "writable, $option: append to an object's file" sh -c 'echo more >> m/big && head -c 300000 m/big | cmp - src/big && tail -c 5 m/big | grep -qx more'
  check "writable, $option: the object is as it was" sh -c 'find store -type f -size 300000c -exec cmp {} src/big \;'
  check "writable, $option: create, remove, rename" sh -c 'echo new > m/new && rm m/empty && mv m/dir/file m/moved && cmp m/moved src/dir/file && ! test -e m/empty'
  check "writable, $option: attributes alone" sh -c 'chmod 600 m/just-external && cmp m/just-external src/just-external && stat -c %a m/just-external | grep -qx 600'
  umount m; mountpoints=()
  check "writable, $option: the changes are there again" sh -c "$mount_composefs $option -o basedir=store,upperdir=upper,workdir=work image m && cat m/new && ! test -e m/empty && umount m"
  rm -rf upper work
done
mkdir upper work
check "user namespace, writable" in_namespace bash -c "set -e; $mount_composefs -o basedir=store,upperdir=upper,workdir=work image m; echo more >> m/big; rm m/empty; head -c 300000 m/big | cmp - src/big; test ! -e m/empty; umount m"

# An image inside of an image's mount.
mkdir nest nest.m; cp image nest/inner
check "nested: make" "$mkcomposefs" --digest-store=store nest image.nest
for option in --standalone --fuse=yes; do
  check "nested, $option: mount" sh -c "$mount_composefs $option -o basedir=store image.nest m && $mount_composefs --standalone -o basedir=store m/inner nest.m"
  check "nested, $option: the same" same src nest.m
  umount nest.m; umount m
done
check "at the end: no server stays" no_server
