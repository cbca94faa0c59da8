# For the tests of views: what programs/lib.sh gives, and a mount of views at $room/tree with its uppers beside it.
here=$(cd "$(dirname "$0")" && pwd)  # before the directory changes
source "$here/../programs/lib.sh"
vellum=$binary
tree=$room/tree
chmod 755 "$room"
mkdir "$tree"

# views OPTIONS...: mounts it.
views() { "$vellum" views "$@" "$tree" && mountpoints=("$tree"); }
end_views() { umount "$tree" && mountpoints=(); }
in_view() { local upper=$1; shift; "$vellum" run --at "$tree" --upper "$upper" -- "$@"; }
# as UID COMMAND...: somebody without any rights of root's.
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
# The number of live views, the directory itself not counted.
live_views() { "$vellum" views --list --json "$tree" | python3 -c 'import json,sys; print(len(json.load(sys.stdin)) - 1)'; }
