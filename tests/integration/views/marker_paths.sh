#!/bin/bash
# Marker paths that lead into the mount itself, by every way there is: an error at once, however many ask. The worker
# that opens a layer must never wait for a worker.
source "$(dirname "$0")/lib.sh"
mkdir low up up/a through
echo low > low/f
mkdir -p "$tree/sub/deep"
echo original > "$tree/f"
ln -s "$tree/sub" into
ln -s "$tree" root
ln -s into again
ln -s low/../again/deep dots
ln -s loop loop
ln -s low here
ln -s /proc/self/cwd magic
check "mount" views -o max_threads=2
mount --bind "$tree" through

# refused_at_once ERROR COMMAND...: 16 processes at the same time.
refused_at_once() {
  local error=$1 number pids=()
  shift
  for number in $(seq 16); do
    (said=$(timeout -s KILL 10 "$@" 2>&1); [[ $said == *"$error"* ]] || { echo "$said"; exit 1; }) &
    pids+=($!)
  done
  number=0
  for pid in "${pids[@]}"; do wait "$pid" || number=$((number + 1)); done
  [ "$number" = 0 ] || { echo "$number of 16 were not refused with: $error"; return 1; }
}
for path in into again dots through/sub through/sub/none; do
  check "an upper by $path" refused_at_once "symbolic links" env WRAPPER_UPPER=$room/$path cat "$tree/f"
  check "a lower by $path" refused_at_once "symbolic links" env "WRAPPER_LOWER=$room/low:$room/$path" cat "$tree/f"
done
check "a work directory by a symlink" \
  refused_at_once "symbolic links" env WRAPPER_UPPER=$room/up/a WRAPPER_WORK=$room/into/deep cat "$tree/f"
check "a loop of symlinks" refused_at_once "symbolic links" env WRAPPER_UPPER=$room/loop cat "$tree/f"
check "a magic link" refused_at_once "symbolic links" env WRAPPER_UPPER=$room/magic cat "$tree/f"
check "a file as a layer" refused_at_once "Not a directory" env WRAPPER_LOWER=$room/low/f cat "$tree/f"
check "a file on the way" refused_at_once "Not a directory" env WRAPPER_LOWER=$room/low/f/x cat "$tree/f"
check "a root directory inside the mount" refused_at_once "No such file" env WRAPPER_LOWER=$room/low \
  chroot "$room/through" /no-such-program
check "symlinks to elsewhere are followed" says low env WRAPPER_LOWER=$room/here cat "$tree/f"
check "and dots" says low env WRAPPER_LOWER=$room/up/../here/../low//. cat "$tree/f"
check "only its own path says what the view around is" refused "symbolic links" env "WRAPPER_LOWER=$room/root" cat "$tree/f"
# Others may put symlinks into /tmp; what they lead to is not taken for what the user named.
mkdir -m 1777 sticky
ln -s "$room/low" sticky/link
chown -h 1002:1002 sticky/link
check "a symlink of another user's in a sticky directory is not followed" refused "Permission denied" \
  setpriv --reuid 1001 --regid 1001 --clear-groups env WRAPPER_LOWER=$room/sticky/link cat "$tree/f"
# One whose layer does not answer keeps nobody else from a view.
mkdir slow slow.lower
"$vellum" overlay -f -o "lowerdir=$room/slow.lower" "$room/slow" &
slow=$!
check "a layer with a daemon of its own" within 5 mountpoint -q "$room/slow"
ls "$room/slow"  # so that opening it asks nothing any more
kill -STOP $slow
timeout 20 env "WRAPPER_LOWER=$room/slow:$room/low" cat "$tree/f" > slow.out &
waits=$!
sleep 0.5
check "a view is made while another's layer does not answer" \
  timeout -s KILL 5 env "WRAPPER_LOWER=$room/up:$room/low" cat "$tree/f"
kill -CONT $slow
wait $waits
check "which comes when it does" says low cat slow.out
umount -l "$room/slow"
kill -KILL $slow
umount "$room/through"
