#!/bin/bash
# buildah with our program as the overlay's mount program: an image in two steps from a Debian root, committed, run.
source "$(dirname "$0")/lib.sh"

[ "$backend" = kernel ] && { echo "there is no mount program to give to buildah"; passed=1; exit 0; }
root=$(debian_root) || { echo "no Debian root"; failed=1; exit 1; }

run_buildah() {
  buildah --root $room/storage --runroot $room/run --storage-driver overlay \
    --storage-opt overlay.mount_program="$mount_program" "$@"
}
run_in() { run_buildah run --isolation chroot --network host "$@"; }

# buildah keeps some state in /run and /var/lib/containers by itself.
mount -t tmpfs tmpfs /run
check "tar of the Debian root" tar -C "$root" -cf $room/root.tar --exclude=./var/cache/apt/archives --exclude=./var/lib/apt/lists .
base=$(run_buildah from scratch) || { failed=1; exit 1; }
check "add the root" run_buildah add "$base" $room/root.tar /
check "step one: run" run_in "$base" -- sh -c 'echo one > /one && useradd -m worker && rm -rf /usr/share/doc/* && mv /etc/issue /etc/issue.old'
check "commit" run_buildah commit -q "$base" one
second=$(run_buildah from --pull-never one) || { failed=1; exit 1; }
check "step two sees step one" run_in "$second" -- sh -c '[ "$(cat /one)" = one ] && [ -d /home/worker ] && [ ! -e /etc/issue ] && [ -z "$(ls /usr/share/doc)" ]'
check "step two: run as a user" run_in --user worker "$second" -- sh -c 'echo two > ~/two && ! echo x > /one'
check "step two: remove and make again" run_in "$second" -- sh -c 'rm -rf /one /etc/apt && mkdir -p /etc/apt && echo back > /etc/apt/sources.list && ln /etc/passwd /etc/passwd.link'
(while [ ! -e $room/enough ] && run_in "$second" -- sh -c 'echo x >> /growing' 2> /dev/null; do :; done) &
writer=$!
check "commit while the container writes" run_buildah commit -q "$second" two
# A run that is ended in its middle would leave mounts and locks behind.
touch $room/enough
wait $writer
third=$(run_buildah from --pull-never two) || { failed=1; exit 1; }
check "the result runs" run_in "$third" -- sh -c '[ "$(cat /home/worker/two)" = two ]'
check "what was removed is gone" run_in "$third" -- sh -c '[ ! -e /one ] && [ ! -e /etc/issue ]'
check "a directory made again holds nothing old" equal "$(run_in "$third" -- ls /etc/apt)" sources.list
# With any mount program buildah stores the new name as a file of its own.
check "a hard link has the content" run_in "$third" -- cmp /etc/passwd /etc/passwd.link
check "owners and modes are kept" equal "$(run_in "$third" -- stat -c '%a %U' /home/worker/two /usr/bin/passwd /tmp | tr '\n' ' ')" "644 worker 4755 root 1777 root "
check "mounted by the program" bash -c "grep -q 'fuse' <(findmnt -no FSTYPE \$(buildah --root $room/storage --runroot $room/run --storage-driver overlay --storage-opt overlay.mount_program=$mount_program mount $third))"
check "remove everything" run_buildah rm -a
check "remove the images" run_buildah rmi -a -f
