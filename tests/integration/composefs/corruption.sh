#!/bin/bash
# Damaged objects and damaged images: refused with the right error and a line that says what is wrong.
source "$(dirname "$0")/lib.sh"
make_tree src; mkdir store m
check "make the image" "$mkcomposefs" --digest-store=store src image || exit 1
digest=$("$mkcomposefs" --print-digest-only src)
with_content() { find store -type f -exec cmp -s {} "src/$1" \; -print; }
big=$(with_content big) file=$(with_content dir/file) zeros=$(with_content dir/zeros)

# spoiled WHAT-SHOULD-BE-SAID NAME COMMAND: the command spoils the store's copy; reading NAME is EIO, other files are fine.
spoiled() {
  local said=$1 name=$2
  rm -rf bad; cp -r store bad
  (cd bad && eval "$3") || return 1
  "$mount_composefs" --standalone --foreground -o basedir=bad,verity image m 2> server.log &
  local server=$!
  for _ in $(seq 300); do mountpoint -q m && break; sleep 0.1; done
  local result=0
  for _ in 1 2; do refused "Input/output error" cat "m/$name" || result=1; done
  stat "m/$name" > /dev/null || result=1
  cmp m/just-external src/just-external || result=1
  kill $server; wait $server || { echo "server: $?"; result=1; }
  grep -q "$said" server.log || { cat server.log; result=1; }
  return $result
}
check "some bytes altered" spoiled "object ${big#store/}: wrong content: digest expected .*, found" big \
  "printf XXXXXXXXXXXXXXXX | dd of=${big#store/} bs=1 seek=200000 conv=notrunc status=none"
sed -n 's/.*digest expected \([0-9a-f]*\), found \([0-9a-f]*\)$/\1/p' server.log | sort -u > expected
check "the log has the digest that was expected" sh -c "tr -d / < expected | grep -qx $(sed 's/^store//; s,/,,g' <<< "$big")"
check "truncated" spoiled "has 299999 bytes, the image says 300000" big "truncate -s -1 ${big#store/}"
check "grown" spoiled "has 300001 bytes, the image says 300000" big "echo >> ${big#store/}"
check "removed" spoiled "No such file" big "rm ${big#store/}"
check "swapped" spoiled "the image says" big "mv ${big#store/} t; mv ${file#store/} ${big#store/}; mv t ${file#store/}"
check "a symlink to the right content" spoiled "ELOOP" big "mv ${big#store/} t; ln -s $room/bad/t ${big#store/}"
check "a fifo" spoiled "is no regular file" big "rm ${big#store/}; mkfifo ${big#store/}"
check "a directory" spoiled "is no regular file" big "rm ${big#store/}; mkdir ${big#store/}"
check "unreadable zeros where there is content" spoiled "wrong content" dir/file "head -c 5000 /dev/zero > ${file#store/}"

# What the kernel cached of an object while it was wrong (without verity nobody noticed) goes with the next open.
restored() {
  rm -rf bad; cp -r store bad
  "$mount_composefs" --standalone -o basedir=bad image m || return 1
  local object=bad/${file#store/} result=0
  head -c 5000 /dev/zero > "$object"
  cmp -s m/dir/file src/dir/file && result=1
  eval "$1"
  cmp m/dir/file src/dir/file || result=1
  umount m
  return $result
}
check "put right again" restored 'cat "$file" > "$object"'
check "put right again by another in its place" restored 'cp "$file" new && mv new "$object"'
check "no object from another mount" sh -c "rm -rf bad; cp -r store bad; mkdir elsewhere; mount -t tmpfs none bad/$(cut -d/ -f2 <<< "$file") &&
  cp $file bad/$(cut -d/ -f2 <<< "$file")/; $mount_composefs --standalone -o basedir=bad image m; ! cat m/dir/file; s=\$?; umount m; umount bad/$(cut -d/ -f2 <<< "$file"); exit \$s"

# Writing to an image while it is served: it goes on as it was. Where it can, the server has not copied it before.
# held mapped|copied COMMAND...: $before is done to the file first, $with is added to the mount's options.
held() {
  local how=$1 result=0 server
  cp image served; shift; eval "${before:-}"
  "$mount_composefs" --standalone --foreground -o "basedir=store${with:-}" served m 2> server.log &
  server=$!
  for _ in $(seq 300); do mountpoint -q m && break; sleep 0.1; done
  if [ "$how" = mapped ]; then grep -q served /proc/$server/maps || result=1; else ! grep -q served /proc/$server/maps || result=1; fi
  timeout 20 "$@" || { echo "waits for ever"; result=1; }
  same src m || result=1
  ! grep -q served /proc/$server/maps || result=1
  kill $server; wait $server || { echo "server: $?"; result=1; }
  exec 9>&-
  if [ "$how" = mapped ]; then grep -q "going on with a copy" server.log || result=1; fi
  return $result
}
check "written to while it is served: cut short" held mapped sh -c ": > served"
check "other bytes" held mapped dd if=/dev/urandom of=served bs=4096 count=20 conv=notrunc status=none
before='exec 9<> served' check "by somebody who has it open already" held copied sh -c 'head -c 50000 /dev/zero >&9'
before='chown 1000 served' check "by another who owns it" held copied sh -c ': > served'
before='chmod g+w served' check "by a group" held copied sh -c ': > served'
with=,digest=$digest check "with a digest" held copied sh -c ': > served'
check "removed and another in its place" sh -c "cp image served; $mount_composefs --standalone -o basedir=store served m && rm served && echo > served &&
  cmp m/big src/big && umount m"

# What a disk that fails looks like to the server: pages of the mapped image that are not there. (No lease holds back
# truncate(2) by way of an overlay.)
unreadable() {
  local result=0 server
  mkdir -p lower upper work merged
  cp image upper/served
  mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none merged || return 1
  "$mount_composefs" --standalone --foreground -o basedir=store upper/served m 2> server.log &
  server=$!
  for _ in $(seq 300); do mountpoint -q m && break; sleep 0.1; done
  grep -q upper/served /proc/$server/maps || { echo "is not mapped"; result=1; }
  python3 -c 'import os; os.truncate("merged/served", 4096)'
  for _ in 1 2; do refused "Input/output error" find m || result=1; done
  stat m > /dev/null || result=1
  kill $server; wait $server || { echo "server: $?"; result=1; }
  grep -q "the image cannot be read at byte" server.log || { cat server.log; result=1; }
  umount merged
  return $result
}
check "pages that cannot be read" unreadable

# Bytes of the image itself.
check "digest: the right one" sh -c "$mount_composefs -o basedir=store,digest=$digest image m && cmp m/big src/big && umount m"
size=$(stat -c %s image)
flips=0
for at in 0 16 1030 1100 1152 1200 2000 $((size / 2)) $((size - 1)); do
  cp image flipped
  python3 - $at <<'END'
import sys
with open("flipped", "r+b") as image:
    image.seek(int(sys.argv[1])); byte = image.read(1)[0]; image.seek(int(sys.argv[1])); image.write(bytes([byte ^ 1]))
END
  check "digest: refused with byte $at flipped" refused "" "$mount_composefs" -o "basedir=store,digest=$digest" flipped m
  flips=$((flips + 1))
done
check "digest: says both" refused "digest expected $digest, found" "$mount_composefs" -o "basedir=store,digest=$digest" flipped m
check "digest: a digest of something else" refused "wrong content" "$mount_composefs" -o "basedir=store,digest=${digest//[0-7]/8}" image m
check "digest: refused by the kernel's way alone" refused "fs-verity" "$mount_composefs" --fuse=no -o "basedir=store,digest=$digest" image m
head -c $((size - 4096)) image > short
check "a truncated image" refused "truncated" "$mount_composefs" --standalone -o basedir=store short m
cp image longer; echo x >> longer
check "verify: what follows the image counts, too" refused "digest expected $digest, found" \
  "$vellum" image verify --basedir store --digest "$digest" longer
check "info: the digest of all of the file" sh -c "$vellum image info longer | grep -q $("$vellum" image measure longer)"
check "no image" refused "no EROFS image" "$mount_composefs" -o basedir=store src/big m

# Damage in one inode or directory stays there; the rest can be read. Any bytes: the server lives on.
cat > damage.py <<'END'
import random, sys
data = bytearray(open("image", "rb").read())
random.seed(int(sys.argv[1]))
for _ in range(60):
    data[random.randrange(1200, len(data) - 1)] = random.choice([0, 255, random.randrange(256)])
open("damaged", "wb").write(data)
END
survives() {
  python3 damage.py "$1"
  "$mount_composefs" --standalone -o basedir=store damaged m || return 0  # refused at once: as good
  timeout 60 sh -c 'find m -ls; find m -type f -exec cat {} +; getfattr -R -d -m - m; ls -lR m' > /dev/null 2>&1
  [ $? -ne 124 ] || { echo "hangs"; return 1; }
  pgrep -x mount.composefs > /dev/null || { echo "the server is gone"; return 1; }
  umount m
}
for seed in $(seq 12); do check "random damage, seed $seed" survives "$seed"; done

# Killed half-way, a store holds no object that is not what its name says, and no image is there that is not whole.
mkdir many && for i in $(seq 3000); do echo "$i $RANDOM" | sha512sum > "many/$i"; done; head -c 50000000 /dev/urandom > many/large
complete=$("$mkcomposefs" --print-digest-only many)
names_are_digests() { "$vellum" image measure $(objects_of half) | awk '{ name = $2; gsub("half|/", "", name); if (name != $1) print $2 }'; }
killed() {
  rm -rf half out
  timeout -s KILL "$1" "$mkcomposefs" --digest-store=half many out && return 0  # it was faster
  [ ! -e half ] || [ -z "$(objects_of half)" ] || says "" names_are_digests || return 1
  [ ! -e out ] || equal "$("$vellum" image measure out | cut -d' ' -f1)" "$complete"
}
for delay in 0.01 0.02 0.03 0.05 0.08 0.12 0.2 0.3; do check "killed after $delay s" killed "$delay"; done
check "made again over what was left" sh -c "$mkcomposefs --digest-store=half --print-digest many out | grep -q $complete"
check "with every object" "$vellum" image verify --basedir half out
check "no server stays" no_server
