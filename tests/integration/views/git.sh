#!/bin/bash
# Two checkouts of one repository at the same path at the same time: a clone in one view, an old and a new commit in two
# views on top of it, read in turns in every way that passes a cache of the kernel. See rounds.py.
#
#   VELLUM_FILES     files in the repository, default 4000; 10000 and 500 rounds take four times as long
#   VELLUM_ROUNDS    rounds of each view, default 200
#   VELLUM_DEPTH     --shared-depth, default as of the program
#   VELLUM_SEED      default: a new one, printed
source "$(dirname "$0")/lib.sh"
files=${VELLUM_FILES:-4000}
rounds=${VELLUM_ROUNDS:-200}
seed=${VELLUM_SEED:-$RANDOM}
depth=${VELLUM_DEPTH:-1}
git config --global user.name "A. Tester"
git config --global user.email tester@example.org
git config --global init.defaultBranch main
git config --global advice.detachedHead false
git config --global gc.auto 0

make_repository() {
  python3 - "$room/source" "$files" <<'PYTHON'
import os, subprocess, sys
root, files = sys.argv[1], int(sys.argv[2])
git = lambda *words: subprocess.run(["git", "-C", root, *words], check=True)
path = lambda n: f"{root}/d{n % 16}/e{n // 16 % 16}/f{n}"
def write(n, text):
    os.makedirs(os.path.dirname(path(n)), exist_ok=True)
    with open(path(n), "w") as file:
        file.write(f"{text} {n}\n" * (1 + n % 300))
os.makedirs(root)
git("init", "-q")
for n in range(files):
    write(n, "old")
with open(f"{root}/VERSION", "w") as file: file.write("old\n")
git("add", "-A"); git("commit", "-qm", "old"); git("tag", "old")
for n in range(0, files, 3):
    write(n, "newer" if n % 2 else "new")   # half of them with the same size
for n in range(0, files, 97):
    os.unlink(path(n))
for n in range(files, files + files // 50):
    write(n, "only new")
with open(f"{root}/VERSION", "w") as file: file.write("new\n")
git("add", "-A"); git("commit", "-qm", "new"); git("tag", "new")
PYTHON
}
on_view() { local upper=$1 lower=$2; shift 2; "$vellum" run --at "$tree" --upper "$upper" ${lower:+--lower "$lower"} -- "$@"; }
# The differences to what is below, and nothing else.
only_differences() {
  local upper=$1 ref=$2 wanted
  wanted=$(git -C "$room/source" diff --name-only main "$ref" | wc -l)
  got=$(cd "$upper/repo" && find . -path ./.git -prune -o \( -type f -o -type c \) -print | wc -l)
  [ "$got" -le $((wanted + 1)) ] || { echo "$upper holds $got files for $wanted differences"; return 1; }
}

mkdir "$room"/{b,c,d}
check "make a repository of $files files" make_repository
for ref in old new; do check "check $ref out beside" git clone -q -b "$ref" "$room/source" "$room/expected-$ref"; done
check "mount" views --shared-depth "$depth"
check "clone in a view" on_view "$room/b" "" git clone -q "$room/source" "$tree/repo"
check "nothing of it without a view" equal "$(ls -A "$tree")" ""
check "an old commit in a view on top" on_view "$room/c" "$room/b" git -C "$tree/repo" checkout -q old
check "a new commit in another" on_view "$room/d" "$room/b" git -C "$tree/repo" checkout -q new
check "upper of the old one holds differences only" only_differences "$room/c" old
check "upper of the new one holds differences only" only_differences "$room/d" new

both() {
  local old new
  on_view "$room/c" "$room/b" python3 "$here/rounds.py" "$tree/repo" "$room/expected-old" "$rounds" "$seed" "$depth" &
  old=$!
  on_view "$room/d" "$room/b" python3 "$here/rounds.py" "$tree/repo" "$room/expected-new" "$rounds" "$seed" "$depth" &
  new=$!
  wait $old || kill $new
  wait $new && wait $old
}
check "$rounds rounds of both at the same path, seed $seed" both
[ -z "${VELLUM_SHOW:-}" ] || { cat "$room/log/last"; "$vellum" views --list "$tree"; "$vellum" stats "$tree"; }
