#!/bin/bash
# The command line, the ways to end, and what is handed over.
source "$(dirname "$0")/lib.sh"
make_tree src; mkdir store m
check "make the image" "$mkcomposefs" --digest-store=store src image || exit 1
m=$mount_composefs

check "help" sh -c "$m --help | grep -q basedir"
check "nothing" refused "an image and a directory" "$m"
check "unknown option" refused "unknown option nonsense" "$m" -o nonsense,basedir=store image m
check "unknown type" refused "unsupported type ext4" "$m" -t ext4 -o basedir=store image m
check "no object directories" refused "basedir is needed" "$m" image m
check "object directory that is not there" refused "basedir nowhere: No such file" "$m" -o basedir=nowhere image m
check "image that is not there" refused "image nowhere: No such file" "$m" -o basedir=store nowhere m
check "mountpoint that is not there" refused "mountpoint nowhere: No such file" "$m" -o basedir=store image nowhere
check "upperdir alone" refused "both are needed" "$m" -o basedir=store,upperdir=u image m
check "standalone with upperdir" refused "read-only" "$m" --standalone -o basedir=store,upperdir=u,workdir=w image m
check "standalone without FUSE" refused "does not go with" "$m" --standalone --fuse=no -o basedir=store image m
check "a digest that is none" refused "hexadecimal" "$m" -o basedir=store,digest=xyz image m
check "--fuse" refused "auto, yes or no" "$m" --fuse=maybe -o basedir=store image m
check "upper layer that is not there" refused "upperdir none: No such file" "$m" -o basedir=store,upperdir=none,workdir=src image m
check "work directory that is not there" refused "workdir none: No such file" "$m" -o basedir=store,upperdir=src,workdir=none image m
check "as in fstab" sh -c "$m image m -o basedir=store,user,relatime,nodiratime,silent,lazytime && umount m && $m image m -o basedir=store,standalone,strictatime && umount m"
check "remount" refused "remount" "$m" -o remount,basedir=store image m
check "failing leaves nothing mounted" sh -c '! mountpoint -q m'

check "vellum image mount" sh -c "$binary image mount --standalone --basedir store image m && cmp m/big src/big && umount m"
check "as mount -t composefs" sh -c "mkdir -p sbin && ln -sf $binary sbin/mount.composefs && mount --bind sbin/mount.composefs /usr/sbin/mount.composefs 2> /dev/null || true; $m image m -o rw,basedir=store && cmp m/big src/big && umount m"
check "options in any order, mount(8)'s flags" sh -c "$m image m -s -v -t composefs -o ro,nosuid,nodev -o basedir=store && umount m"
check "fake" sh -c "$m -f -o basedir=store image m && ! mountpoint -q m"

# Several object directories, with names that need escapes.
mkdir 'st:a,b' two; cp -r store/. two; first=$(find store -type f | sort | head -n 1)
mkdir -p "st:a,b/$(dirname "${first#store/}")"; mv "two/${first#store/}" "st:a,b/${first#store/}"
for option in --fuse=no --fuse=yes --standalone; do
  check "two object directories, $option" sh -c "$m $option -o 'basedir=st\\:a\\,b:two' image m && find m -type f -exec cat {} + > /dev/null && cmp m/big src/big; s=\$?; umount m; exit \$s"
done

# Upper layers whose paths the kernel takes no more as text.
long=$(printf 'x%.0s' $(seq 200))
for up in "$room/$long/$long" "$room/b\\s" "$room/c:d"; do
  mkdir -p "$up/u" "$up/w"; escaped=${up//\\/\\\\}; escaped=${escaped//:/\\:}
  for option in --fuse=no --fuse=yes; do
    overlaid() {
      "$m" $option -o "basedir=store,upperdir=$escaped/u,workdir=$escaped/w" image m && touch m/new && umount m && rm "$up/u/new"
    }
    check "upper layer in ...${up: -4}, $option" overlaid
  done
done

# What takes the place of an old image.
mkdir few; echo few > few/f
check "make a small image" sh -c "$mkcomposefs few small && chmod 640 small && chown 1000:1000 small"
check "another takes its place" "$mkcomposefs" src small
check "with the old one's owner and mode" equal "$(stat -c '%u %g %a' small)" "1000 1000 640"
# A disk whose fullness is found out late: what is written waits in the page cache.
mkdir late full empty; mount -t tmpfs -o size=100k full full; mkdir full/u full/w
check "a file system that is full" "$binary" overlay -o lowerdir=empty,upperdir=full/u,workdir=full/w,passthrough=0 late
check "an image fits" "$mkcomposefs" few late/image
cp late/image few.image
check "another does not" refused "No space" "$mkcomposefs" src late/image
check "and the first is as it was" cmp late/image few.image
check "with nothing beside it" equal "$(ls -A late)" image
umount late; umount -l full

ln -s image '[a,b]'
check "names in brackets" sh -c "$binary image measure '[a,b]' && $binary image ls --filter big '[a,b]' | grep -q ^/big && $binary image diff image '[a,b]' && $binary image verify --quiet --basedir store '[a,b]'"
for command in "--help" "--version" "overlay --help" "image --help" "image mount --help"; do
  check "vellum $command: what cannot be written is an error" refused "No space" sh -c "$binary $command > /dev/full"
done

# Ending.
for option in --fuse=yes --standalone; do
  for signal in TERM INT HUP; do
    ended() {  # a shell has SIGINT ignored by what it puts in the background
      env --default-signal=INT "$m" --foreground $option -o basedir=store image m & local server=$!
      within 30 mountpoint m && cmp m/big src/big && kill -$signal $server && wait $server && ! mountpoint -q m
    }
    check "$option: SIG$signal unmounts and ends well" ended
  done
  busy() {
    "$m" $option -o basedir=store image m || return 1
    exec 9< m/big
    pkill -TERM -x mount.composefs -n
    within 30 sh -c '! mountpoint m'
    local status=$?
    exec 9<&-
    [ $status -eq 0 ] && no_server
  }
  check "$option: ends while a file is open" busy
done
# What the first walk asked for answers the second.
second_walk() {
  local server reports
  "$m" --foreground $1 -o basedir=store image m 2> server.log & server=$!
  within 30 mountpoint m
  for reports in 1 2; do
    find m -ls > /dev/null
    kill -USR1 $server
    within 30 sh -c "[ \$(grep -c '{.*}\$' server.log) = $reports ]"
  done
  umount m; wait $server
  python3 - << 'END'
import json
first, second = (json.loads(line[line.index("{"):])["operations"] for line in open("server.log") if "{" in line)
more = {name: count["count"] - first.get(name, {"count": 0})["count"] for name, count in second.items()}
more = {name: count for name, count in more.items() if count and name not in ("STATFS", "FORGET", "BATCH_FORGET")}
assert sum(more.values()) <= 2, more
END
}
for option in --fuse=yes --standalone; do check "$option: a second walk asks for nothing" caches_kept second_walk $option; done
check "remount after all that" sh -c "$m --fuse=yes -o basedir=store image m && umount m"

# What a manager hands over instead of paths.
activated() {
  exec 3< image 4< store
  LISTEN_FDS=2 LISTEN_FDNAMES=image:basedir sh -c "export LISTEN_PID=\$\$; exec $m --standalone handed-over m"
  local status=$?
  exec 3<&- 4<&-
  [ $status -eq 0 ] && cmp m/big src/big && umount m
}
check "image and objects by descriptors" activated

# Images of others.
cp -a src plain && rm plain/odd/nnn*  # which mkfs.erofs cannot take
check "mkfs.erofs" mkfs.erofs --quiet plain.erofs plain
for option in --standalone --fuse=no; do
  check "plain EROFS, $option" sh -c "$m $option plain.erofs m"
  check "plain EROFS, $option: the same" same plain m --links
  umount m
done
check "plain EROFS: mount flags count" sh -c "$m --fuse=no -o nosuid,nodev,noexec plain.erofs m && findmnt -no OPTIONS m | grep -q nosuid,nodev,noexec"
umount m
mkdir plainup plainwork
for option in --fuse=no --fuse=yes --fuse=auto; do
  check "plain EROFS, $option: no upper layer" refused "only over a composefs image" "$mount_composefs" $option -o upperdir=plainup,workdir=plainwork plain.erofs m
done
head -c 300000 /dev/zero | tr '\0' z > plain/packable
check "compressed: the file says that it is not supported, others are fine" sh -c "mkfs.erofs --quiet -zlz4 packed.erofs plain && $m --standalone packed.erofs m && cmp m/dir/file plain/dir/file && stat m/packable 2>&1 | grep -q 'not supported'"
umount m
check "no server stays" no_server
