#!/usr/bin/env python3
"""One view's half of the interleaved test: looks at a git checkout in as many ways as there are caches between.

usage: rounds.py REPO EXPECTED ROUNDS SEED [NOT]

EXPECTED is a directory with the same files, outside of the mount. Any byte, name or answer that differs ends it with
status 1 and a line that says what. NOT: directories of this level below REPO are never the
working directory (the first level that views do not share, see --shared-depth).
"""
import mmap
import os
import random
import subprocess
import sys

repo, expected, rounds, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
left_out = int(sys.argv[5]) if len(sys.argv) > 5 else -1
chance = random.Random(seed)
counts = {}


def count(what):
    counts[what] = counts.get(what, 0) + 1


def fail(text):
    print(f"{repo} (expected {expected}, seed {seed}): {text}")
    sys.exit(1)


def check(what, got, wanted):
    count(what)
    if got != wanted:
        fail(f"{what}: got {got[:80]!r}, expected {wanted[:80]!r}")


def git(*words):
    count("git " + words[0])
    done = subprocess.run(["git", "-C", repo, *words], capture_output=True)
    if done.returncode != 0:
        fail(f"git {' '.join(words)}: status {done.returncode}: {done.stderr.decode()}{done.stdout.decode()[:300]}")
    return done.stdout


content, names = {}, {}
for directory, subdirs, files in os.walk(expected):
    if ".git" in subdirs:
        subdirs.remove(".git")
    relative = os.path.relpath(directory, expected)
    names[relative] = sorted(subdirs + files)
    for name in files:
        with open(os.path.join(directory, name), "rb") as file:
            content[os.path.normpath(os.path.join(relative, name))] = file.read()
paths = sorted(content)
directories = sorted(names)
at_rest = [each for each in directories if (0 if each == "." else each.count("/") + 1) != left_out]
head = subprocess.run(["git", "-C", expected, "rev-parse", "HEAD"], capture_output=True, check=True).stdout
log = subprocess.run(["git", "-C", expected, "log", "--oneline"], capture_output=True, check=True).stdout


def mapped(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        if os.fstat(fd).st_size == 0:
            return b""
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as area:
            return area[:]
    finally:
        os.close(fd)


def one_round(number):
    with open(os.path.join(repo, ".git/HEAD"), "rb") as file:
        check(".git/HEAD", file.read(), head)
    for path in chance.sample(paths, 10):
        check("mmap", mapped(os.path.join(repo, path)), content[path])
        with open(os.path.join(repo, path), "rb") as file:
            check("read", os.pread(file.fileno(), 1 << 20, 0), content[path])
    # By a working directory, and by an open one.
    at = chance.choice(at_rest)
    os.chdir(os.path.join(repo, at))
    check("getcwd", os.getcwd(), os.path.normpath(os.path.join(repo, at)))
    local = [name for name in names[at] if os.path.normpath(os.path.join(at, name)) in content]
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    for name in chance.sample(local, min(3, len(local))):
        wanted = content[os.path.normpath(os.path.join(at, name))]
        check("relative mmap", mapped(name), wanted)
        file = os.open(name, os.O_RDONLY, dir_fd=fd)
        check("openat", os.read(file, 1 << 20), wanted)
        os.close(file)
    os.close(fd)
    check("getcwd", os.getcwd(), os.path.normpath(os.path.join(repo, at)))
    some = chance.choice(directories)
    check("names", [n for n in sorted(os.listdir(os.path.join(repo, some))) if n != ".git"], names[some])
    if number % 25 == 0:
        check("git status is clean", git("status", "--porcelain"), b"")
    if number % 20 == 5:
        check("git log", git("log", "--oneline"), log)
    if number % 100 == 50:
        git("fsck", "--no-progress")


for number in range(rounds):
    one_round(number)
print(f"{rounds} rounds, {sum(counts.values())} checks:", ", ".join(f"{n} {w}" for w, n in sorted(counts.items())))
