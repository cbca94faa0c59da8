# For the tests of images: what programs/lib.sh gives, our programs under their names, and a tree with everything that an
# image can hold. VELLUM_MKCOMPOSEFS: another program that makes the images.
here=$(cd "$(dirname "$0")" && pwd)  # before the directory changes
source "$here/../programs/lib.sh"
chmod 755 "$room"
for name in mkcomposefs mount.composefs; do ln -s "$binary" "$room/bin/$name"; done
vellum=$binary
mkcomposefs=${VELLUM_MKCOMPOSEFS:-$room/bin/mkcomposefs}
# What plain users need, wherever this machine keeps it from them. Seen in this mount namespace alone.
mknod -m 666 "$room/fuse" c 10 229 && mount --bind "$room/fuse" /dev/fuse
mkdir -m 755 "$room/programs" && cp "$(realpath "$binary")" "$room/programs/mount.composefs"  # where users may look
mount_composefs=$room/programs/mount.composefs

# As somebody without any rights of root's.
as_user() { setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all "$@"; }
# In a user namespace of its own, as its root.
in_namespace() { unshare --user --map-root-user --mount "$@"; }
# The lines of tree.py of two trees are the same.
same() { diff <(python3 "$here/tree.py" "${@:3}" "$1") <(python3 "$here/tree.py" "${@:3}" "$2"); }
no_server() { within 30 sh -c '! pgrep -ax mount.composefs'; }
objects_of() { find "$1" -type f | sort; }

# make_tree DIRECTORY: whatever has a place in an image, but whiteouts.
make_tree() {
  local top=$1 i
  mkdir -p "$top"/{dir/sub,many,odd}
  head -c 300000 /dev/urandom > "$top/big"; head -c 5000 /dev/urandom > "$top/dir/file"
  head -c 4096 /dev/zero > "$top/dir/zeros"; head -c 65 /dev/urandom > "$top/just-external"
  head -c 64 /dev/urandom > "$top/just-inline"; : > "$top/empty"; chmod 4755 "$top/dir/file"
  ln -s ../big "$top/dir/link"; ln -s "$(printf 'x%.0s' $(seq 4000))" "$top/longlink"; ln -s nowhere "$top/odd/dangling"
  mkfifo "$top/odd/fifo"; mknod "$top/odd/null" c 1 3; mknod "$top/odd/block" b 7 260
  python3 -c 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$top/odd/socket"
  touch "$top/odd/"$'new\nline' "$top/odd/"$'\xff\xfe' "$top/odd/ space" "$top/odd/$(printf 'n%.0s' $(seq 255))"
  for i in $(seq 900); do echo "content of $i" > "$top/many/!$i"; done
  touch "$top/many/~last"; touch -d '1960-01-02 03:04:05.678' "$top/empty"; touch -d '2100-01-02 03:04:05.6' "$top/dir"
  setfattr -n user.plain -v value "$top/big"; setfattr -n user.empty "$top/big"
  for i in $(seq 20); do setfattr -n "user.shared$i" -v "the same everywhere $i" "$top/dir" "$top/dir/file"; done
  setfattr -n user.long -v "$(head -c 2000 /dev/zero | tr '\0' l)" "$top/dir/sub"
  setfattr -n user.overlay.opaque -v y "$top/dir/sub"
}
