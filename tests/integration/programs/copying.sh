#!/bin/bash
# rsync -aHAX and tar with xattrs, ACLs and hard links, into the mount and out of it.
source "$(dirname "$0")/lib.sh"

make_tree() {
  local top=$1 i
  mkdir -p "$top"/{plain,deep/er/est,special}
  for i in $(seq 200); do head -c "$((i * 37))" /dev/urandom > "$top/plain/file$i"; done
  head -c 3000000 /dev/urandom > "$top/deep/big"
  truncate -s 50M "$top/deep/sparse"
  printf data | dd of="$top/deep/sparse" bs=1 seek=20000000 conv=notrunc status=none
  ln "$top/plain/file1" "$top/deep/er/link-to-file1"
  ln "$top/plain/file2" "$top/plain/again2"
  ln -s ../plain/file3 "$top/deep/symlink"
  mkfifo "$top/special/fifo"
  mknod "$top/special/null" c 1 3
  printf x > "$top/special/$(printf 'odd \377name\n')"
  chown 1000:1001 "$top/plain/file5" "$top/deep/er"
  chown -h 1000:1001 "$top/deep/symlink"
  chmod 4755 "$top/plain/file6"
  chmod 0 "$top/plain/file7"
  chmod 2775 "$top/deep/er/est"
  setfattr -n user.note -v hello "$top/plain/file8"
  setfattr -n trusted.note -v root "$top/plain/file9"
  setfacl -m u:1000:rw,g:1001:r "$top/plain/file10"
  setfacl -d -m u:1000:rwx "$top/deep"
  setcap cap_net_raw+ep "$top/plain/file11"
  find "$top" -exec touch -h -d '2001-02-03 04:05:06' {} +
}
# Nothing that rsync would have to change.
no_difference() { local out; out=$(rsync -aHAXni --delete "$1/" "$2/") && equal "$out" ""; }
tar_of() { tar --xattrs --xattrs-include='*' --acls --sort=name -C "$1" -cf "$2" .; }
untar() { tar --xattrs --xattrs-include='*' --acls -C "$1" -xpf "$2"; }
# tar says "file changed as we read it" with status 1.
tar_sees_no_change() { tar_of "$1" /dev/null; }

check "make a tree" make_tree $room/lower
mkdir $room/{out,untarred}
overlay m $room/lower
check "rsync sees no difference to the lower layer" no_difference $room/lower $room/m
check "rsync out" rsync -aHAX $room/m/ $room/out/
check "what came out is equal" no_difference $room/m $room/out
check "and the same tree" same_tree $room/lower $room/out
check "rsync inside, with whole copy" rsync -aHAX $room/lower/ $room/m/copy/
check "what went in is equal" no_difference $room/lower $room/m/copy
check "change some of it" bash -c "cd $room/m && rm -r plain/file1* && echo new > plain/file2 && chmod 600 plain/file8 && mv plain/file30 deep/er/ && rm -rf copy/deep"
check "tar of what was just copied up" tar_sees_no_change $room/m
check "rsync the changes back" rsync -aHAX --delete $room/out/ $room/m/
check "no difference left" no_difference $room/out $room/m
check "the same tree" same_tree $room/out $room/m
check "tar out" tar_of $room/m $room/one.tar
mkdir $room/m/untarred
check "tar in" untar $room/m/untarred $room/one.tar
check "what went in is equal" no_difference $room/out $room/m/untarred
check "tar over itself" untar $room/m/untarred $room/one.tar
check "is still equal" no_difference $room/out $room/m/untarred
check "tar of it is the same, byte for byte" bash -c "tar --xattrs --xattrs-include='*' --acls --sort=name -C $room/m/untarred -cf $room/two.tar . && tar tvf $room/one.tar | sort > $room/1 && tar tvf $room/two.tar | sort > $room/2 && diff $room/1 $room/2"
check "cp -a" cp -a $room/m/plain $room/m/cp-plain
check "cp -a is equal" no_difference $room/m/plain $room/m/cp-plain
check "du counts hard links once" equal "$(du -s --apparent-size -B1 $room/m/plain | cut -f1 | xargs -I{} expr {} / 100000)" "$(du -s --apparent-size -B1 $room/lower/plain | cut -f1 | xargs -I{} expr {} / 100000)"
check "the sparse file stays sparse" bash -c "[ \$(du -k $room/m/untarred/deep/sparse | cut -f1) -lt 60000 ]"
