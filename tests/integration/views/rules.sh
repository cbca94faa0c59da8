#!/bin/bash
# Which view a process sees: own markers, ancestors', none; exec, nesting, daemons, reused pids; who is not believed.
source "$(dirname "$0")/lib.sh"
mkdir up up/{a,b,c,idle,deep} low
echo original > "$tree/f"; echo keep > "$tree/keep"; echo low > low/f
mkdir "$tree/sub"; echo original > "$tree/sub/g"
cp /bin/cat "$room/deniedcat"
check "mount" views --deny deniedcat --idle 300

check "without markers: the directory itself" says original cat "$tree/f"
check "write without markers" sh -c "echo more >> $tree/new && grep -q more $tree/new && rm $tree/new"
check "marks and whiteout names are names like others without markers" \
  sh -c "cd $tree && touch .wh.x && ls -A | grep -qx .wh.x && rm .wh.x && setfattr -n trusted.overlay.opaque -v y sub && getfattr -n trusted.overlay.opaque sub && setfattr -x trusted.overlay.opaque sub"
check "everything else without markers" python3 "$here/unmarked.py" "$tree"
check "reaches the directory itself" sh -c "umount $tree && test -f $tree/room/D/e/f/x && rm -r $tree/room"
check "mount again" views --deny deniedcat --idle 300
check "write in a view" in_view up/a sh -c "echo a > $tree/f"
check "read in the view" says a in_view up/a cat "$tree/f"
check "the directory is as it was" says original cat "$tree/f"
check "the change is in upper" says a cat up/a/f
check "another view does not see it" says original in_view up/b cat "$tree/f"
check "markers by hand" says a env WRAPPER_UPPER=$room/up/a cat "$tree/f"
check "a lower directory" says low env WRAPPER_LOWER=$room/low cat "$tree/f"
check "a lower directory alone is read-only" refused "Read-only" env WRAPPER_LOWER=$room/low sh -c "echo x > $tree/f"
check "several lower directories" says keep env "WRAPPER_LOWER=$room/low:$tree" cat "$tree/keep"
check "exec with other markers moves to the other view" \
  says "a|original" in_view up/a sh -c "printf '%s|' \$(cat $tree/f); WRAPPER_UPPER=$room/up/b exec cat $tree/f"
check "a child without markers of its own stays" says a in_view up/a env -i cat "$tree/f"
in_view up/a sh -c "(setsid env -i sh -c 'sleep 0.5; cat $tree/f > $room/daemon.out' &)"
check "a daemon that lost its parents and its environment stays" within 10 grep -qx a daemon.out
check "exit status" refused "" in_view up/a sh -c 'exit 3'
in_view up/a sh -c 'exit 3'; check "is the command's" equal $? 3
in_view up/a sh -c 'kill -9 $$'; check "killed: 128 and the signal" equal $? 137
in_view up/a no-such-program; check "not found: 127" equal $? 127
words='<[0-9]><[a,b]><[]><><--><++><stats>'
check "the command's words are passed as they are" says "$words" in_view up/a printf '<%s>' '[0-9]' '[a,b]' '[]' '' -- ++ stats
check "without -- too" says "$words" "$vellum" run --at "$tree" --upper up/a printf '<%s>' '[0-9]' '[a,b]' '[]' '' -- ++ stats
check "a view on the view around" says "a+" \
  in_view up/a sh -c "$vellum run --lower $tree --upper up/c --at $tree -- sh -c 'printf + >> $tree/sub/g; printf %s \$(cat $tree/f); tail -c1 $tree/sub/g'"
check "the change of the inner one is not in the outer" says original in_view up/a cat "$tree/sub/g"
check "a working directory goes over into the view" sh -c "cd $tree/sub && $vellum run --upper $room/up/c --lower $room/up/a:$tree -- cat g | tail -n 1 | grep -qx +"
check "a view of its own namespace" says "ns" "$vellum" run --namespace --upper up/deep --at "$tree" -- sh -c "echo ns > $tree/f; cat $tree/f"
check "and nobody else sees it" says original cat "$tree/f"
check "an upper that is not there is an error, not the directory" refused "No such file" env WRAPPER_UPPER=$room/up/none cat "$tree/f"
check "a relative marker is an error" refused "Invalid argument" env WRAPPER_UPPER=up/a cat "$tree/f"
check "a layer in the mount itself is an error" refused "symbolic links" env WRAPPER_UPPER=$tree/sub cat "$tree/f"
ln -s "$tree/sub" into
check "nor by a symlink" refused "symbolic links" env WRAPPER_UPPER=$room/into cat "$tree/f"
many_layers() { # COUNT COMMAND...
  local lowers
  lowers=$(printf "$room/low:%.0s" $(seq "$1"))
  env WRAPPER_LOWER="${lowers%:}" "${@:2}"
}
check "500 layers" says low many_layers 500 cat "$tree/f"
check "501 are refused" refused "Invalid argument" many_layers 501 cat "$tree/f"
check "also with those of the view around" refused "Invalid argument" \
  many_layers 300 sh -c "WRAPPER_LOWER=\$WRAPPER_LOWER:$tree cat $tree/f"
check "two views on one upper with other lowers" refused "busy" \
  in_view up/a sh -c "exec 3< $tree/f; WRAPPER_LOWER=$room/low cat $tree/f"
check "--deny" refused "not supported" "$room/deniedcat" "$tree/f"
check "--deny lets others in" says original cat "$tree/f"
cp /bin/bash "$room/deniedsh"
check "--deny holds after a child has looked" refused "not supported" \
  sh -c "umount $tree && $vellum views --deny deniedsh --idle 300 $tree && $room/deniedsh -c '/bin/cat $tree/f; read x < $tree/f && echo got \$x'"
check "mount again" sh -c "umount $tree && $vellum views --deny deniedcat --idle 300 $tree"

# A pid that is used again: the next process gets the number of one that was in a view. Status 2: another took it.
reused_once() {
  local pid
  env WRAPPER_UPPER=$room/up/a sh -c "echo \$\$; cat $tree/f" > pid.out
  pid=$(head -n 1 pid.out)
  [ "$(tail -n 1 pid.out)" = a ] || return 1
  echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
  sh -c "echo \$\$; read line < $tree/f; echo \$line" > pid.out
  [ "$(head -n 1 pid.out)" = "$pid" ] || { echo "the pid did not come again"; return 2; }
  equal "$(tail -n 1 pid.out)" original
}
reused() {
  local status
  for _ in $(seq 20); do
    reused_once && return 0
    status=$?
    [ $status -eq 2 ] || return $status
  done
  return 1
}
check "a pid that comes again has no view" reused
cat > ended.py <<'END'
import ctypes, os, subprocess, sys, threading, time
def later():
    time.sleep(1.5)  # longer than it takes to find out who has ended
    print(subprocess.run(["cat", sys.argv[1]], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True).stdout, end="", flush=True)
    os._exit(0)
open(sys.argv[1]).read()
threading.Thread(target=later).start()
ctypes.CDLL(None).pthread_exit(None)
END
check "the child of a process whose first thread has ended" says a \
  env WRAPPER_UPPER=$room/up/a python3 ended.py "$tree/f"
check "in a pid and mount namespace of its own: passed through" \
  says original env WRAPPER_UPPER=$room/up/a unshare --pid --mount --fork --mount-proc cat "$tree/f"
check "an inherited view in a mount namespace of its own stays" says "a a" \
  env WRAPPER_UPPER=$room/up/a sh -c "{ unshare -m env -u WRAPPER_UPPER cat $tree/f; unshare -m cat $tree/f; } | xargs"
check "below a shell there, too" says "a a" \
  env WRAPPER_UPPER=$room/up/a sh -c "unshare -m sh -c 'cat $tree/f; env -u WRAPPER_UPPER cat $tree/f; :' | xargs"
cat > thread.py <<'END'
import os, sys, threading
def read(): print(open(sys.argv[1]).read().strip(), flush=True)
read()
while os.getppid() == int(sys.argv[2]):
    pass
thread = threading.Thread(target=read)
thread.start()
thread.join()
END
orphan() { # its parent, and with it the markers, are gone when the thread begins
  env WRAPPER_UPPER=$room/up/a sh -c "env -i $(command -v env) python3 thread.py $tree/f \$\$ > thread.out & until [ -s thread.out ]; do sleep 0.01; done"
  within 10 sh -c '[ $(wc -l < thread.out) = 2 ]' && says "a a" xargs < thread.out
}
check "a new thread of an orphan sees what its process does" orphan
cat > title.py <<'END'
import ctypes, os, sys
first = open(sys.argv[1]).read().strip() if sys.argv[2] == "before" else ""
fields = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
start, end = int(fields[47]), int(fields[48])
title = (b"a title of its own " * 500)[: end - start]
ctypes.memmove(start, title, len(title))
try:
    print(first, open(sys.argv[1]).read().strip())
except OSError as error:
    print(first, error.strerror)
END
check "a title in place of the environment, after the first look" says "a a" \
  sh -c "WRAPPER_UPPER=$room/up/a setsid -w python3 title.py $tree/f before"
check "before it: with vellum run the view stays" says "a" \
  sh -c "$vellum run --at $tree --upper $room/up/a -- python3 title.py $tree/f after | xargs"
check "a view nobody uses is dropped" within 10 sh -c "[ \$($vellum views --list --json $tree | grep -c '\"view\"') = 1 ]"
check "and comes back as it was" says a in_view up/a cat "$tree/f"
check "list shows a view's upper" sh -c "$vellum run --at $tree --upper up/a -- sh -c 'cat $tree/f; $vellum views --list $tree' | grep -q up/a"
in_turns() {
  local reads round view
  mkdir -p up/r1 up/r2
  for view in r1 r2; do in_view up/$view sh -c "mkdir $tree/deep $tree/deep/er; head -c 300000 /dev/urandom > $tree/deep/er/big"; done
  for round in 1 2 3 4 5; do
    for view in r1 r2; do in_view up/$view cmp "$tree/deep/er/big" up/$view/deep/er/big || return 1; done
  done
  reads=$("$vellum" stats --json "$tree" | python3 -c 'import json,sys; print(json.load(sys.stdin)["operations"].get("READ", {}).get("count", 0))')
  [ "$reads" -le 3 ] || { echo "$reads READs"; return 1; }
}
check "two views in turns read their data once" caches_kept in_turns
# A file handle outlives its view, whose number the next one gets.
cat > handle.py <<'END'
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128)]
tree, take = sys.argv[1:]
handle, mount = Handle(128, 0), ctypes.c_int()
if take == "take":
    assert libc.name_to_handle_at(-100, f"{tree}/sub/deep/file".encode(), ctypes.byref(handle), ctypes.byref(mount), 0) == 0
    print(handle.bytes, handle.type, bytes(handle.handle[: handle.bytes]).hex())
else:
    size, kind, text = take.split()
    handle.bytes, handle.type = int(size), int(kind)
    handle.handle[: handle.bytes] = bytes.fromhex(text)
    held = open(f"{tree}/sub/deep/file")
    fd = libc.open_by_handle_at(os.open(tree, os.O_RDONLY), ctypes.byref(handle), os.O_RDONLY)
    print(os.read(fd, 10) if fd >= 0 else os.strerror(ctypes.get_errno()))
END
mkdir -p low{1,2}/sub/deep && echo 1 > low1/sub/deep/file && echo 2 > low2/sub/deep/file
check "no view is left" within 10 sh -c "[ \$($vellum views --list --json $tree | grep -c '\"view\"') = 1 ]"
check "a file handle taken in a view" sh -c "WRAPPER_LOWER=$room/low1 python3 handle.py $tree take > handle.out"
check "which then ends" within 10 sh -c "[ \$($vellum views --list --json $tree | grep -c '\"view\"') = 1 ]"
check "is nothing in the next one" says "Stale file handle" env WRAPPER_LOWER=$room/low2 python3 handle.py "$tree" "$(cat handle.out)"
check "stats" sh -c "$vellum stats $tree | grep -q LOOKUP"
end_views
check "nfs_filehandles are refused" refused "nfs_filehandles" "$vellum" views -o nfs_filehandles "$tree"
check "mount with --strict and another prefix" views --strict --env-prefix MINE
check "the other prefix" says a env MINE_UPPER=$room/up/a cat "$tree/f"
check "the default one is nothing special then" says original env WRAPPER_UPPER=$room/up/a cat "$tree/f"
check "strict: a title in place of the environment is refused" says "Permission denied" \
  sh -c "MINE_UPPER=$room/up/a python3 title.py $tree/f after | xargs"
check "strict: a view by inheritance in a namespace" says a \
  env MINE_UPPER=$room/up/a sh -c "unshare -m sh -c 'env -u MINE_UPPER cat $tree/f; :'; :"
check "strict: nor is there a way around by a child in a namespace" refused "Permission denied" \
  env MINE_UPPER=$room/up/a unshare -m sh -c "exec env -u MINE_UPPER sh -c 'MINE_UPPER=$room/up/b sh -c \"env -u MINE_UPPER cat $tree/f\"'"
check "strict: another namespace is refused" \
  refused "Permission denied" env MINE_UPPER=$room/up/a unshare --pid --mount --fork --mount-proc cat "$tree/f"

# `vellum run` mounts where nothing is mounted yet: once, however many begin at the same time.
end_views
mkdir up/at{1..8}
at_once() {
  local n pids=() status=0
  for n in $(seq 8); do
    "$vellum" run --at "$tree" --upper "up/at$n" -- sh -c "echo $n > $tree/mine" &
    pids+=($!)
  done
  mountpoints=("$tree")
  for n in "${pids[@]}"; do wait "$n" || status=1; done
  for n in $(seq 8); do equal "$(cat "up/at$n/mine")" "$n" || status=1; done
  equal "$(grep -c " $tree " /proc/self/mountinfo)" 1 && return $status
}
check "eight runs at once mount once" at_once
check "a working directory that is gone is refused" refused "vellum run: the working directory cannot be told" \
  sh -c "mkdir gone && cd gone && rmdir ../gone && exec $vellum run --at $tree --upper $room/up/a -- pwd"
sh -c "mkdir gone && cd gone && rmdir ../gone && exec $vellum run --at $tree --upper $room/up/a -- true" 2> /dev/null
check "with 125" equal $? 125
check "nor is it left for / with --namespace" refused "the working directory cannot be told" \
  sh -c "mkdir gone && cd gone && rmdir ../gone && exec $vellum run --namespace --at $tree --upper $room/up/a -- pwd"
