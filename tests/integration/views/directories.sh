#!/bin/bash
# Who is in a directory stays in it, whatever becomes of its name: as natively, in views and without one.
source "$(dirname "$0")/lib.sh"
mkdir up native user && chown 1001:1001 user
python3 "$here/directories.py" "$room/native" > expected
check "natively nothing fails" sh -c '! grep failed expected'
# as_natively COMMAND...: prints what it prints natively.
as_natively() { "$@" > got 2>&1; diff expected got; }

for depth in 0 1 2; do
  check "mount, shared depth $depth" views --shared-depth "$depth"
  chmod 777 "$tree"
  mkdir "up/$depth" "up/other$depth" "user/$depth" && chown 1001:1001 "user/$depth"
  check "in a view" as_natively in_view "up/$depth" python3 "$here/directories.py" "$tree"
  check "in another, at the same names" as_natively in_view "up/other$depth" python3 "$here/directories.py" "$tree"
  check "in a user's view" as_natively as 1001 "$vellum" run --at "$tree" --upper "$room/user/$depth" -- \
    python3 "$here/directories.py" "$tree"
  check "without a view" as_natively python3 "$here/directories.py" "$tree"
  rm -rf "${tree:?}"/*
  end_views
  check "mount again, shared depth $depth" views --shared-depth "$depth"
  chmod 777 "$tree"
  check "without a view, not as root" as_natively as 1001 env python3 "$here/directories.py" "$tree"
  rm -rf "${tree:?}"/*
  end_views
done

# A view that renames and makes again does it alone; the others stay where they are.
check "mount" views
mkdir up/a up/b up/c
for view in a b c; do check "made in each" in_view up/$view sh -c "mkdir $tree/shared && touch $tree/shared/$view"; done
cat > others.py <<'END'
import os, subprocess, sys
tree, room = sys.argv[1:]
stay = "import os, sys; os.chdir(sys.argv[1]); print(); sys.stdin.readline(); open('stayed', 'w').close()"
def view(name): return os.environ | {"WRAPPER_UPPER": f"{room}/up/{name}"}
stayers = [subprocess.Popen([sys.executable, "-c", stay, f"{tree}/shared"], env=view(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "bc"]
for stayer in stayers:
    stayer.stdout.readline()
again = f"cd {tree}/shared && mv ../shared ../gone && mkdir ../shared && touch here ../shared/new && ls ../shared . ../gone"
print(*subprocess.run(["sh", "-c", again], env=view("a"), stdout=subprocess.PIPE, text=True).stdout.split())
for name, stayer in zip("bc", stayers):
    stayer.communicate("\n")
    print(*sorted(os.listdir(f"{room}/up/{name}/shared")))
END
check "who renames and makes again does it alone" says ".: a here ../gone: a here ../shared: new
b stayed
c stayed" python3 others.py "$tree" "$room"
