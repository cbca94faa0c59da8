#!/bin/bash
# Many processes in several views at the same paths: see processes.py. Then a thousand views in one daemon.
source "$(dirname "$0")/lib.sh"
mkdir up
check "mount" views --idle 60000
check "8 views at the same time" python3 "$here/processes.py" "$vellum" "$tree" "$room/up" 8 "${VELLUM_ROUNDS:-100}"
check "nothing of it without a view" says "" ls -A "$tree"

memory() { grep VmRSS "/proc/$(pgrep -f "views --idle")/status" | grep -o '[0-9]*'; }
thousand() {
  local n before after
  before=$(memory)
  for n in $(seq 1000); do
    mkdir "up/many$n"
    WRAPPER_UPPER=$room/up/many$n sh -c "echo $n > $tree/number" || return 1
  done
  for n in $(seq 1000); do
    read -r got < <(WRAPPER_UPPER=$room/up/many$n sh -c "read x < $tree/number; echo \$x")
    [ "$got" = "$n" ] || { echo "view $n shows $got"; return 1; }
  done
  after=$(memory)
  echo "$(((after - before) / 1000)) KiB for each view"
  # Nodes, locks and descriptors of an empty overlay; a view must not cost what a daemon does.
  [ $((after - before)) -lt 200000 ]
}
check "a thousand views" thousand
[ -z "${VELLUM_SHOW:-}" ] || cat "$room/log/last"
check "all of them are listed" sh -c "[ \$($vellum views --list --json $tree | grep -c '\"view\"') -gt 1000 ]"

# A view ends when nobody has used it for a moment; whoever wants its upper right then waits for the end.
end_views
check "mount again" views --idle 1
mkdir up/again
again() {
  local n
  for n in $(seq 150); do
    WRAPPER_UPPER=$room/up/again sh -c "echo $n > $tree/n && read x < $tree/n && [ \$x = $n ]" || return 1
    sleep "0.00$((n % 10))"
  done
}
check "a view that is wanted again just as it ends" again

# Each view works in many directories; the daemon may open few files, and keeps directories open for all views together.
end_views
mkdir lower && for n in $(seq 300); do mkdir "lower/d$n" && echo "$n" > "lower/d$n/file"; done
check "mount with 256 descriptors" prlimit --nofile=256:256 "$vellum" views "$tree" && mountpoints=("$tree")
busy_views() {
  local n
  for n in $(seq 12); do
    mkdir "up/busy$n"
    WRAPPER_LOWER=$room/lower WRAPPER_UPPER=$room/up/busy$n sh -c "cd $tree && for i in \$(seq 300); do cat d\$i/file; done" > got || return 1
    seq 300 | cmp - got || return 1
  done
}
check "a dozen busy views share them" busy_views
# The same lower files open in each of them.
cat > hold.py <<'END'
import os, subprocess, sys
tree, room = sys.argv[1:]
hold = "import sys\nfiles = [open(f'{sys.argv[1]}/d{n}/file') for n in range(1, 31)]\nprint([f.read() for f in files] == [f'{n}\\n' for n in range(1, 31)], flush=True)\nsys.stdin.read()"
views = [subprocess.Popen([sys.executable, "-c", hold, tree], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"WRAPPER_LOWER": f"{room}/lower", "WRAPPER_UPPER": f"{room}/up/busy{n}"})
         for n in range(1, 13)]
answers = [view.stdout.readline().strip() for view in views]
for view in views:
    view.communicate()
sys.exit(answers != ["True"] * len(views))
END
check "a dozen views with the same files open" python3 hold.py "$tree" "$room"
# With no descriptor left a request may fail, but nobody is shown the directory without their view.
cat > exhaust.py <<'END'
import os, subprocess, sys
tree, room = sys.argv[1:]
upper = f"{room}/up/exhaust"
os.mkdir(upper)
for name in os.listdir(f"{room}/lower"):
    os.mkdir(f"{upper}/{name}")
    open(f"{upper}/{name}/own", "w").close()
markers = os.environ | {"WRAPPER_LOWER": f"{room}/lower", "WRAPPER_UPPER": upper}
hold = """import sys
files = []
try:
    for n in range(1, 301):
        files.append(open(f'{sys.argv[1]}/d{n}/own'))
except OSError as error:
    print(error.errno, flush=True)
sys.stdin.read()"""
holder = subprocess.Popen([sys.executable, "-c", hold, tree], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=markers)
full = holder.stdout.readline().strip() != ""
wrong = []
for again in range(20):
    look = subprocess.run(["sh", "-c", f"ls {tree}; cat {tree}/covered; echo x > {tree}/of-the-view"], env=markers, capture_output=True, text=True)
    if "covered" in look.stdout or "original" in look.stdout:
        wrong.append(look.stdout)
holder.communicate()
strays = set(os.listdir(tree)) - {"covered"}
print(full, strays, wrong[:3])
sys.exit(not full or strays != set() or wrong != [])
END
printf original > "$tree/covered"
check "out of descriptors: an error, never another view" python3 exhaust.py "$tree" "$room"
end_views
# Layers take descriptors; a view that there are none for is not said to be impossible, wherever they ran out.
check "mount with 64 descriptors" prlimit --nofile=64:64 "$vellum" views "$tree" && mountpoints=("$tree")
few_descriptors() {
  local count layers said refusals=0
  for count in $(seq 4 3 64); do
    layers=$(printf "$room/lower:%.0s" $(seq "$count"))
    said=$(WRAPPER_LOWER=${layers%:} cat "$tree/d1/file" 2>&1) && equal "$said" 1 && continue
    [[ $said == *"Too many open files"* ]] || { echo "$count layers: $said"; return 1; }
    refusals=$((refusals + 1))
  done
  [ $refusals -gt 0 ]
}
check "out of descriptors for layers: that error" few_descriptors
check "and the next view is as ever" says 1 env WRAPPER_LOWER="$room/lower" cat "$tree/d1/file"
