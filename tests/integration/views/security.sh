#!/bin/bash
# What a user's markers must not make the daemon do. The daemon is root, the mount is open to all.
source "$(dirname "$0")/lib.sh"
mkdir secret alice bob alice/{up,low,up2,up3} bob/up
echo secret > secret/f
chmod 700 secret
echo private > alice/low/private; chmod 600 alice/low/private   # root's own file in her directory
echo lower > alice/low/f
mkdir -m 755 alice/low/rootdir; echo x > alice/low/rootdir/x
cp /bin/cat "$room/suidcat"; chmod 4755 "$room/suidcat"
chown -R 1001:1001 alice bob; chown 1002:1002 -R bob
chown 0:0 alice/low/private alice/low/rootdir
ln -s "$room/secret" alice/link
chown -h 1001:1001 alice/link
echo original > "$tree/f"; chmod 755 "$tree"
install -m 600 /dev/null "$tree/rootonly"; echo rootonly > "$tree/rootonly"
mkdir -m 1777 "$tree/shared"
check "mount" views
alice() { as 1001 env "$@"; }

check "her own view" alice WRAPPER_UPPER=$room/alice/up WRAPPER_LOWER=$room/alice/low sh -c "echo mine > $tree/new; cat $tree/f"
check "what she makes is hers" says 1001:1001 stat -c %u:%g alice/up/new
check "a directory she may not enter: as upper" refused "Permission denied" alice WRAPPER_UPPER=$room/secret cat "$tree/f"
check "as lower" refused "Permission denied" alice WRAPPER_LOWER=$room/secret cat "$tree/f"
check "by a symlink" refused "Permission denied" alice WRAPPER_LOWER=$room/alice/link cat "$tree/f"
check "by /proc/self of the daemon" refused "" alice WRAPPER_LOWER=/proc/self/root/root cat "$tree/f"
check "as work directory" refused "" alice WRAPPER_UPPER=$room/alice/up2 WRAPPER_WORK=$room/secret cat "$tree/f"
check "nothing was made there" says f ls -A secret
check "a file of root's in her layer is not read" refused "Permission denied" \
  alice WRAPPER_UPPER=$room/alice/up WRAPPER_LOWER=$room/alice/low cat "$tree/private"
check "nor made hers" refused "not permitted" \
  alice WRAPPER_UPPER=$room/alice/up WRAPPER_LOWER=$room/alice/low chmod 666 "$tree/private"
check "a directory of root's in her layer is not written" refused "Permission denied" \
  alice WRAPPER_UPPER=$room/alice/up WRAPPER_LOWER=$room/alice/low touch "$tree/rootdir/y"
beside() { ls -A / /etc | grep -E "vellum|evil"; }
before=$(beside)
check "an upper she may read but not write takes nothing" refused "" \
  alice WRAPPER_UPPER=/etc WRAPPER_LOWER=$room/alice/low sh -c "echo evil > $tree/evil"
check "nothing was made beside it" equal "$(beside)" "$before"
check "the original's permissions hold in her view" refused "Permission denied" alice WRAPPER_UPPER=$room/alice/up3 cat "$tree/rootonly"
# A file without a size: whether its open or its first read would be refused, there is nothing to read.
check "procfs as a layer shows her nothing of root's" says "" alice WRAPPER_LOWER=/proc sh -c "cat $tree/1/maps 2> /dev/null || true"
check "or its environment" refused "" alice WRAPPER_LOWER=/proc cat "$tree/1/environ"
check "a setuid program does not take her view" says original alice WRAPPER_LOWER=$room/alice/low "$room/suidcat" "$tree/f"
install -g 1003 -m 2755 /bin/cat "$room/sgidcat"
check "nor does a setgid program" says original alice WRAPPER_LOWER=$room/alice/low "$room/sgidcat" "$tree/f"
cp /bin/cat "$room/capcat"
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 "$room/capcat"  # cap_net_raw=ep
check "nor does one with file capabilities" says original alice WRAPPER_LOWER=$room/alice/low "$room/capcat" "$tree/f"
lends_no_group() {
  setpriv --reuid 1001 --regid 1001 --groups 1003 env WRAPPER_UPPER=$room/alice/up2 sh -c "exec 3< $tree/f && touch alice/opened && exec sleep 60" &
  local first=$! status
  within 30 test -e alice/opened
  refused "busy" alice WRAPPER_UPPER=$room/alice/up2 cat "$tree/f"
  status=$?
  as 1001 env WRAPPER_LOWER=$room/alice/low cat "$tree/f" || status=$?
  kill $first
  wait $first
  return $status
}
check "a view lends nobody a group" lends_no_group
check "nor does root below her shell" says original \
  env WRAPPER_LOWER=$room/alice/low setpriv --reuid 1001 --regid 1001 --clear-groups --inh-caps=-all "$room/suidcat" "$tree/f"
check "another user does not write to her upper" refused "" as 1002 env WRAPPER_UPPER=$room/alice/up sh -c "echo bob > $tree/new"
check "her file is as it was" says mine cat alice/up/new
check "marks in user attributes do not make owners" sh -c "
  setfattr -n user.containers.override_stat -v 0:0:0755 $room/alice/low &&
  setfattr -n user.containers.override_stat -v 0:0:4755 $room/alice/low/f
  [ \"\$(setpriv --reuid 1001 --regid 1001 --clear-groups env WRAPPER_LOWER=$room/alice/low stat -c %u:%a $tree/f)\" = 1001:644 ]"
check "no setuid from any layer" sh -c "grep ' $tree ' /proc/mounts | grep -q nosuid"
check "she sees her views only" sh -c "
  $vellum run --at $tree --upper $room/bob/up -- true
  setpriv --reuid 1001 --regid 1001 --clear-groups env WRAPPER_UPPER=$room/alice/up3 $vellum views --list --json $tree | grep upper | grep -c bob | grep -qx 0"
check "unmarked users share a sticky directory as ever" refused "not permitted" sh -c "
  setpriv --reuid 1001 --regid 1001 --clear-groups touch $tree/shared/hers && setpriv --reuid 1002 --regid 1002 --clear-groups rm -f $tree/shared/hers"

# Many generations with large environments: each is looked at, none is kept.
cat > large.py <<'END'
import os, resource, sys
tree, generations = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_STACK, (64 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
if generations < 0:
    os.execve(sys.executable, ["python3", __file__, tree, str(-generations)], {f"X{n}": "y" * 100000 for n in range(55)})
for generation in range(generations):
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.exit(open(f"{tree}/f").read() != "original\n")
END
chmod 644 large.py
end_views
"$vellum" views -f "$tree" & daemon=$! mountpoints=("$tree")
check "mount in the foreground" within 10 mountpoint -q "$tree"
check "many generations with large environments" as 1001 env python3 "$room/large.py" "$tree" -240
check "do not fill the daemon's memory" sh -c "grep VmHWM /proc/$daemon/status; [ \$(grep VmHWM /proc/$daemon/status | grep -o '[0-9]*') -lt 700000 ]"
end_views
wait $daemon

# A daemon without rights may not look at each process of its own user's. (fusermount3 wants a user with a name.)
nobody=$(id -u nobody)
mkdir -p own/{tree,low} && echo original > own/tree/f && echo low > own/low/f && chown -R "$nobody:$nobody" own
mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse
tree=$room/own/tree
install -m 711 /bin/cat "$room/unreadable"
own() { as "$nobody" env WRAPPER_LOWER=$room/own/low "$@"; }
check "mount as a user" as "$nobody" "$vellum" views "$tree" && mountpoints=("$tree")
check "their own view" says low own cat "$tree/f"
check "a program that may not be read is refused" refused "Permission denied" own "$room/unreadable" "$tree/f"
check "and one that lets nobody look at it" refused "Permission denied" own python3 -c "
import ctypes, sys
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
open(sys.argv[1])" "$tree/f"
check "one that has looked before stays" says low own python3 -c "
import ctypes, sys
open(sys.argv[1])
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
print(open(sys.argv[1]).read().strip())" "$tree/f"
