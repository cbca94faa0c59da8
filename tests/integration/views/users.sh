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
[ -z "${VELLUM_SHOW:-}" ] || cat "$room/log/last"
