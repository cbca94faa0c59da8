#!/usr/bin/env python3
"""Users whose views show other owners and modes at the same paths, all at the same time: nobody is refused what is theirs,
and nobody gets what is not.

usage: users.py MOUNT ROOM SECONDS    (0: one user with a working directory from another view instead)

Runs as root and becomes the users 1001 and 1002. ROOM/UID is the user's upper, of mode 0700; `hidden` and `loose` in the
covered directory are root's alone, and each user's own in the user's view, `loose` of mode 0777 there.
"""
import os
import sys
import time

PYTHON = "/usr/bin/python3"  # one that every user may run
mount, room, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])


def as_user(uid, environment, what):
    """A process of that user's, started with that environment; its status says whether it found nothing wrong."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.execve(PYTHON, [PYTHON, f"{room}/users.py", mount, room, str(seconds), what], environment)
    return pid


def view(uid):
    return {"WRAPPER_LOWER": f"{room}/low", "WRAPPER_UPPER": f"{room}/{uid}"}


def owner():
    """What a user's own view must always let the user do."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        os.stat(f"{mount}/f")
        name = f"{mount}/hidden/new-{os.getpid()}"
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
        os.unlink(name)
        os.stat(f"{mount}/loose")
        assert os.stat(f"{mount}/hidden").st_uid == os.getuid()
    print(f"{os.getuid()}: {number} rounds")


def stranger():
    """Without a view: what root keeps to itself stays so, whatever the views say of the same path."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        for name in ("hidden", "loose"):
            refused(lambda: os.listdir(f"{mount}/{name}"))
            refused(lambda: os.stat(f"{mount}/{name}/secret"))
            refused(lambda: os.open(f"{mount}/{name}/new", os.O_CREAT | os.O_WRONLY))
            refused(lambda: os.chmod(f"{mount}/{name}", 0o777))
            refused(lambda: os.rename(f"{mount}/{name}/secret", f"{mount}/{name}/gone"))
        os.listdir(mount)
    print(f"{os.getuid()} without a view: {number} rounds")


def mover():
    """Enters a directory of the own view, and stays there without a view."""
    os.chdir(f"{mount}/closed/inner")
    os.execve(PYTHON, [PYTHON, f"{room}/users.py", mount, room, str(seconds), "moved"], {})


def moved():
    """In a directory that is open to all, below one that is not: by path there is no way to it."""
    refused(lambda: os.stat(f"{mount}/closed/inner/secret"))
    refused(lambda: os.stat("secret"))
    refused(lambda: os.listdir("."))
    refused(lambda: os.open("secret", os.O_RDONLY))


def refused(attempt):
    try:
        print("got", attempt())
        sys.exit(1)
    except PermissionError:
        pass


if len(sys.argv) > 4:
    try:
        globals()[sys.argv[4]]()
    except OSError as error:
        print(f"{os.getuid()} as {sys.argv[4]}: {error}")
        sys.exit(1)
    sys.exit(0)

if seconds == 0:
    running = [as_user(1001, view(1001), "mover")]
else:
    running = [as_user(uid, view(uid), "owner") for uid in (1001, 1002) for _ in range(2)]
    running.append(as_user(1001, {}, "stranger"))
sys.exit(any([os.waitpid(pid, 0)[1] != 0 for pid in running]))
