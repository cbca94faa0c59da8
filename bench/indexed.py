#!/usr/bin/env python3
"""Time of a lookup in a directory whose index is made, with 1, 8 and 64 lower layers: bench/indexed.py VELLUM (as root).

The directory has 6,400 names, spread over the layers. The first lookup makes the index, and is told apart; then 3,000
names that are there, and 3,000 that are not, each asked for once. The best of five rounds counts, on one CPU.
"""
import os
import random
import subprocess
import sys
import tempfile
import time

NAMES, ASKED, ROUNDS, LAYERS = 6400, 3000, 5, (1, 8, 64)


def exists(path):
    try:
        os.stat(path)
        return True
    except FileNotFoundError:
        return False


def per_name(paths, expected):
    start = time.perf_counter()
    for path in paths:
        assert exists(path) == expected, path
    return (time.perf_counter() - start) / len(paths)


def measure(vellum, room, layers):
    lowers = ":".join(f"{room}/l{layer}" for layer in range(layers))
    options = f"lowerdir={lowers},upperdir={room}/upper,workdir={room}/work"
    subprocess.run([vellum, "overlay", "-o", options, f"{room}/at"], check=True)
    cpus = os.sched_getaffinity(0)
    try:
        start = time.perf_counter()
        exists(f"{room}/at/d/f0")
        exists(f"{room}/at/d/none")
        index = time.perf_counter() - start
        os.sched_setaffinity(0, {max(cpus)})
        names = random.sample(range(1, NAMES), ASKED)
        hit = per_name([f"{room}/at/d/f{name}" for name in names], True)
        miss = per_name([f"{room}/at/d/x{name}" for name in names], False)
        return hit, miss, index
    finally:
        os.sched_setaffinity(0, cpus)
        subprocess.run(["umount", f"{room}/at"], check=True)


def main():
    with tempfile.TemporaryDirectory(prefix="vellum-indexed.") as room:
        subprocess.run(["mount", "-t", "tmpfs", "none", room], check=True)
        try:
            for layers in LAYERS:
                top = f"{room}/{layers}"
                for name in [f"l{layer}/d" for layer in range(layers)] + ["upper", "work", "at"]:
                    os.makedirs(f"{top}/{name}")
                for name in range(NAMES):
                    open(f"{top}/l{name % layers}/d/f{name}", "w").close()
            best = {}
            for _ in range(ROUNDS):
                for layers in LAYERS:
                    now = measure(sys.argv[1], f"{room}/{layers}", layers)
                    best[layers] = [min(pair) for pair in zip(best.get(layers, now), now)]
            for layers, (hit, miss, index) in best.items():
                print(f"{layers:2} layers: hit {hit * 1e6:.1f} us, miss {miss * 1e6:.1f} us, index {index * 1e3:.2f} ms")
        finally:
            subprocess.run(["umount", "-l", room], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
