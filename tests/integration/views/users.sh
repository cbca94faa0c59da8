#!/bin/bash
# Users that do not trust each other on one mount: at the directories that all views share, nobody is refused what is
# theirs because of what another's view shows there, and nobody gets what is not. See users.py.
source "$(dirname "$0")/lib.sh"
mkdir -m 1777 users
for user in 1001 1002; do
  mkdir -p users/$user/{hidden,loose,closed/inner}
  chmod 700 users/$user users/$user/hidden
  chmod 777 users/$user/loose
  chown -R $user:$user users/$user
done
mkdir users/low
echo low > users/low/f
mkdir -m 700 "$tree"/{hidden,loose,closed}
mkdir "$tree/closed/inner"
for name in hidden loose closed/inner; do echo secret > "$tree/$name/secret"; done
chmod 755 "$tree"
install -m 644 "$here/users.py" users/users.py
check "mount" views --shared-depth 2
exec 3< "$tree/closed/inner"  # known already, by somebody who may
check "a working directory from a view leads to nothing that no path leads to" \
  python3 users/users.py "$tree" "$room/users" 0
exec 3<&-
check "two users and a stranger at the same paths" python3 users/users.py "$tree" "$room/users" "${VELLUM_SECONDS:-3}"
sleep 2.1
check "modes are shown as they are when nobody is in the way" says "755" as 1001 stat -c %a "$tree"
end_views

# What is root's stays root's while a user's view says otherwise of the directory that all share.
mkdir -p "$tree/sub/mine"; chown 1001:1001 "$tree/sub/mine"; echo root > "$tree/rootfile"
mkdir -m 777 users/open; chown 1001:1001 users/open
check "mount, one level shared" views
turns() { for _ in 1 2 3 4 5; do stat -c %a "$tree"; as 1001 stat -c %a "$tree"; done | sort -u; }
check "root and a user without any view see the mode as it is" says 755 turns
differing() { for _ in $(seq 400); do WRAPPER_UPPER=$room/users/open as 1001 stat "$tree"; as 1001 stat "$tree"; cat "$tree/closed/inner/secret"; done > /dev/null 2>&1; }
differing & contest=$!
sleep 0.3
stays() { for _ in $(seq 60); do refused "Permission denied" as 1001 "$@" || return 1; done; }
check "no file of root's is moved into a directory of one's own" stays mv "$tree/rootfile" "$tree/sub/mine/x"
check "nothing is read below a directory that is closed" stays cat "$tree/closed/inner/secret"
check "nor listed" stays ls "$tree/closed/inner"
kill $contest; wait $contest 2> /dev/null
check "the file is where it was" grep -q root "$tree/rootfile"
[ -z "${VELLUM_SHOW:-}" ] || cat "$room/log/last"
