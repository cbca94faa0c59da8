#!/bin/bash
# A Debian root as the lower layer: chroot, apt-get install with maintainer scripts, dpkg --verify, removal.
source "$(dirname "$0")/lib.sh"

root=$(debian_root) || { echo "no Debian root"; failed=1; exit 1; }
before=$(tree_text "$root" | sha256sum)
overlay m "$root"
m=$room/m

# Names are looked up and packages fetched the way this machine does it.
cp --remove-destination /etc/resolv.conf $m/etc/resolv.conf
for file in /etc/apt/apt.conf.d/*; do
  grep -qis 'proxy' "$file" && cp "$file" $m/etc/apt/apt.conf.d/
done
mount -t proc proc $m/proc
mount -t tmpfs tmpfs $m/tmp
mountpoints=($m/tmp $m/proc "${mountpoints[@]}")

in_root() { chroot $m env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
  http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" "$@"; }
quiet_dpkg() { ! grep -iE '^(dpkg[a-z-]*|E|W): .*(backup link|unable to|fsync|error|cannot)' $room/log/apt; }
apt() { in_root apt-get -o Acquire::Retries=5 "$@"; }
install() { apt install -y --no-install-recommends "$@" > $room/log/apt 2>&1 || { cat $room/log/apt; return 1; }; }

check "apt-get update" apt update
check "apt-get install of packages with maintainer scripts" install adduser openssh-client cron libcap2-bin fontconfig-config
check "no complaint of dpkg" quiet_dpkg
check "the scripts have run: crontab's group" in_root getent group crontab
check "a setgid program keeps its bits" equal "$(stat -c '%a %G' $m/usr/bin/ssh-agent)" "2755 $(in_root getent group _ssh > /dev/null && stat -c %G $m/usr/bin/ssh-agent)"
check "dpkg --verify" bash -c "out=\$(chroot $m dpkg --verify | grep -v ' /usr/share/\(doc\|man\|locale\)/'); [ -z \"\$out\" ] || { echo \"\$out\"; false; }"
check "dpkg --audit" bash -c "out=\$(chroot $m dpkg --audit); [ -z \"\$out\" ] || { echo \"\$out\"; false; }"
check "reinstall a package of the lower layer" install --reinstall coreutils
check "no complaint of dpkg" quiet_dpkg
check "file capabilities are kept" bash -c "chroot $m setcap cap_net_raw+ep /bin/ls && chroot $m getcap /bin/ls | grep -q cap_net_raw"
check "upgrade" apt -y dist-upgrade
check "remove" apt purge -y cron openssh-client
check "nothing of it is left" bash -c "[ ! -e $m/usr/sbin/cron ] && [ ! -e $m/usr/bin/ssh ]"
check "dpkg --verify" bash -c "out=\$(chroot $m dpkg --verify | grep -v ' /usr/share/\(doc\|man\|locale\)/'); [ -z \"\$out\" ] || { echo \"\$out\"; false; }"
check "the lower layer is as it was" equal "$(tree_text "$root" | sha256sum)" "$before"
