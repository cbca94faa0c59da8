#!/usr/bin/env python3
"""Many processes in several views of one mount: each thing that a kernel cache could mix up, told apart by content.

usage: processes.py VELLUM MOUNT UPPERS VIEWS ROUNDS

Each view is one process (this program again, as `--in-view`), all at the same time. Prints what was checked.
"""
import ctypes
import fcntl
import mmap
import os
import subprocess
import sys

from files import read, write


def die(text):
    print(text)
    sys.exit(1)


def equal(what, got, wanted):
    if got != wanted:
        die(f"{what}: got {got!r}, expected {wanted!r}")


def in_view(mount, name, rounds):
    """name: of the view, and what all its content says."""
    base = f"{mount}/top/work"
    os.makedirs(base, exist_ok=True)
    write(f"{mount}/who", name)
    write(f"{base}/who", name)
    # A program and a shared library that say which view they are of.
    write(f"{mount}/tool", f"#!/bin/sh\necho {name}\n")
    os.chmod(f"{mount}/tool", 0o755)
    source = f"{mount}/lib.c"
    write(source, f'const char *who(void) {{ return "{name}"; }}\n')
    subprocess.run(["cc", "-shared", "-fPIC", "-o", f"{mount}/lib.so", source], check=True)
    load = "import ctypes,sys; l=ctypes.CDLL(sys.argv[1]); l.who.restype=ctypes.c_char_p; print(l.who().decode())"
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    IN_CREATE = 0x100
    libc.inotify_add_watch(watcher, f"{base}".encode(), IN_CREATE)

    for number in range(rounds):
        equal("a file of the root", read(f"{mount}/who"), name)
        equal("a file below", read(f"{base}/who"), name)
        # Working directory and open directory.
        for directory in (mount, f"{mount}/top"):
            os.chdir(directory)
            equal("getcwd", os.getcwd(), directory)
        os.chdir(mount)
        equal("relative to the working directory", read("top/work/who"), name)
        fd = os.open(f"{mount}/top", os.O_RDONLY | os.O_DIRECTORY)
        file = os.open("work/who", os.O_RDONLY, dir_fd=fd)
        equal("relative to an open directory", os.read(file, 100).decode(), name)
        os.close(file)
        os.close(fd)
        # Names come and go; only this view's are listed.
        write(f"{mount}/{name}-{number}", name)
        os.rename(f"{mount}/{name}-{number}", f"{mount}/{name}-moved")
        names = sorted(n for n in os.listdir(mount) if n.startswith("view"))
        equal("names in the root", names, [f"{name}-moved"])
        os.unlink(f"{mount}/{name}-moved")
        # Directories at the same path: made, renamed, removed.
        os.mkdir(f"{mount}/dir")
        write(f"{mount}/dir/f", name)
        os.rename(f"{mount}/dir", f"{mount}/dir2")
        equal("in a renamed directory", read(f"{mount}/dir2/f"), name)
        equal("the old name", os.path.exists(f"{mount}/dir"), False)
        os.unlink(f"{mount}/dir2/f")
        os.rmdir(f"{mount}/dir2")
        equal("a removed directory", os.path.exists(f"{mount}/dir2"), False)
        # Shared memory of a file, and the same file by write(2).
        with open(f"{mount}/shared", "w+b") as file:
            file.write(b"." * 8192)
            file.flush()
            with mmap.mmap(file.fileno(), 8192) as area:
                area[4096 : 4096 + len(name)] = name.encode()
                area.flush()
            equal("a shared mapping", os.pread(file.fileno(), len(name), 4096).decode(), name)
            # A lock in this view is nobody's business in another.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
        write(f"{base}/made-{number}", name)
        os.unlink(f"{base}/made-{number}")
        if number % 10 == 0:
            equal("a program", subprocess.run([f"{mount}/tool"], capture_output=True).stdout.decode(), name + "\n")
            loaded = subprocess.run([sys.executable, "-c", load, f"{mount}/lib.so"], capture_output=True)
            equal("a shared library", loaded.stdout.decode(), name + "\n")
    os.set_blocking(watcher, False)
    events = b""
    try:
        while chunk := os.read(watcher, 65536):
            events += chunk
    except BlockingIOError:
        pass
    if b"made-" not in events:
        die("inotify saw nothing of what this view made")
    print(f"{name}: {rounds} rounds")


if sys.argv[1] == "--in-view":
    in_view(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    sys.exit(0)

vellum, mount, uppers, views, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
running = []
for number in range(views):
    name = f"view{number}"
    os.makedirs(f"{uppers}/{name}", exist_ok=True)
    running.append(
        subprocess.Popen(
            [vellum, "run", "--at", mount, "--upper", f"{uppers}/{name}", "--", sys.executable, os.path.abspath(__file__)]
            + ["--in-view", mount, name, str(rounds)]
        )
    )
failed = sum(process.wait() != 0 for process in running)
sys.exit(failed != 0)
