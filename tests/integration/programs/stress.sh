#!/bin/bash
# stress-ng's file system stressors, each for a moment, two workers at once, in a mount over a lower layer.
source "$(dirname "$0")/lib.sh"

mkdir lower
for i in $(seq 100); do echo "$i" > "lower/file$i"; done
overlay m $room/lower
for stressor in access chmod chown copy-file dentry dir dirdeep dirmany fallocate fcntl fiemap filename flock fpunch \
  fsize getdent hdd iomix link locka lockf lockofd mknod open rename seek symlink sync-file touch \
  utime xattr; do
  check "stress-ng --$stressor" timeout 60 stress-ng --temp-path m --$stressor 2 --timeout "${STRESS_SECONDS:-1}" --verify --quiet --oom-avoid
done
check "nothing is left behind" equal "$(find m -mindepth 1 | wc -l)" 100
check "the lower files are as they were" same_tree lower m
