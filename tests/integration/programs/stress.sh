#!/bin/bash
# stress-ng's file system stressors, two at once for a moment, each with two workers, in a mount over a lower layer.
source "$(dirname "$0")/lib.sh"

mkdir lower
for i in $(seq 100); do echo "$i" > "lower/file$i"; done
overlay m $room/lower
stressors=(access chmod chown copy-file dentry dir dirdeep dirmany fallocate fcntl fiemap filename flock fpunch \
  fsize getdent hdd iomix link locka lockf lockofd mknod open rename seek symlink sync-file touch \
  utime xattr)
for ((i = 0; i < ${#stressors[@]}; i += 2)); do
  pair=$(printf -- '--%s 2 ' "${stressors[@]:i:2}")
  check "stress-ng $pair" timeout 60 stress-ng --temp-path m $pair --timeout "${STRESS_SECONDS:-1}" --verify --quiet --oom-avoid
done
check "nothing is left behind" equal "$(find m -mindepth 1 | wc -l)" 100
check "the lower files are as they were" same_tree lower m
