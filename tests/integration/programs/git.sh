#!/bin/bash
# git in a checkout that lies in a lower layer, and in one cloned inside the mount.
source "$(dirname "$0")/lib.sh"

git config --global user.name test
git config --global user.email test@example.org
git config --global init.defaultBranch main
git config --global advice.detachedHead false

make_repository() {
  git init -q lower/repo
  cd lower/repo || return 1
  for round in $(seq 8); do
    for i in $(seq 150); do
      mkdir -p "src/part$((i % 10))"
      seq "$((i * round))" "$((i * round + 200))" > "src/part$((i % 10))/file$i.txt"
    done
    ln -sfn "src/part$((round % 10))" link
    printf '#!/bin/sh\necho %s\n' "$round" > run.sh
    chmod 755 run.sh
    git add -A && git commit -qm "round $round" || return 1
    git tag "v$round"
  done
  git gc -q
  # Entries as young as the index itself would be looked at again each time.
  sleep 1.1
  git status > /dev/null
}
clean() {
  local changes
  changes=$(git -C "$1" status --porcelain) && equal "$changes" ""
}
# The second status rewrites nothing: what the first one saw of times and inode numbers still holds.
index_is_stable() {
  local before
  git -C "$1" status > /dev/null
  before=$(stat -c '%i %Y %Z %s' "$1/.git/index")
  git -C "$1" status > /dev/null
  equal "$(stat -c '%i %Y %Z %s' "$1/.git/index")" "$before"
}

mkdir lower
check "make a repository" make_repository
overlay m $room/lower
repo=$room/m/repo
check "status of a lower checkout is clean" clean $repo
check "status again is clean" clean $repo
check "the index stays as it is" index_is_stable $repo
check "checkout of an old version" git -C $repo checkout -q v2
check "is clean" clean $repo
check "and has the old content" equal "$($repo/run.sh)" 2
check "checkout back" git -C $repo checkout -q main
check "is clean after switching" clean $repo
check "branch, change, commit" bash -c "cd $repo && git checkout -qb work && sed -i s/1/one/ src/part1/*.txt && git mv src/part2/file2.txt moved.txt && git rm -qr src/part3 && git commit -qam work"
check "is clean after the commit" clean $repo
check "rebase" bash -c "cd $repo && git checkout -qb other v5 && echo x > new && git add new && git commit -qm other && git rebase -q v6"
check "stash and pop" bash -c "cd $repo && echo change >> run.sh && git stash -q && git stash pop -q && git checkout -q run.sh"
check "gc" git -C $repo gc -q --prune=now
check "gc --aggressive after repack" git -C $repo repack -adq
check "fsck" git -C $repo fsck --strict
check "clean after gc" clean $repo
check "clean after gc, again" clean $repo
check "clone inside the mount" git clone -q $repo $room/m/clone
check "clone with hard links" git clone -q --local $repo $room/m/clone2
check "the clone is clean" clean $room/m/clone
check "a worktree" git -C $repo worktree add -q $room/m/tree v3
check "the worktree is clean" clean $room/m/tree
check "git clean" bash -c "cd $repo && mkdir -p junk/a/b && touch junk/a/b/c && git clean -fdq && [ ! -e junk ]"
