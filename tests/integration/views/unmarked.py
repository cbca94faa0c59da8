#!/usr/bin/env python3
"""What a process without a view can do: everything that the directory's own file system lets it. usage: unmarked.py DIR"""
import ctypes
import errno
import mmap
import os
import sys

from files import read, write

os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW, NOREPLACE, EXCHANGE = -100, 0x400, 1, 2


os.mkdir("room")
os.chdir("room")
write("a", "A")
write("b", "B")
os.link("a", "a2")
assert os.stat("a").st_nlink == 2 and os.stat("a").st_ino == os.stat("a2").st_ino
assert libc.renameat2(AT_FDCWD, b"a", AT_FDCWD, b"b", EXCHANGE) == 0
assert read("a") == "B" and read("a2") == "A"
assert libc.renameat2(AT_FDCWD, b"a", AT_FDCWD, b"b", NOREPLACE) == -1 and ctypes.get_errno() == errno.EEXIST
fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
os.write(fd, b"tmp")
assert libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, b"t", AT_SYMLINK_FOLLOW) == 0
assert read("t") == "tmp"
os.makedirs("d/e/f")
write("d/e/f/x", "x")
os.rename("d", "D")
assert read("D/e/f/x") == "x"
os.mkdir("E")
os.rename("E", "E2")
os.mkdir("E")
os.rename("E2", "E")  # over an empty directory
os.rmdir("E")
os.setxattr("a", "user.k", b"v")
assert os.getxattr("a", "user.k") == b"v" and "user.k" in os.listxattr("a")
os.mknod("fifo", 0o010600)
os.symlink("a", "s")
assert os.readlink("s") == "a"
fd = os.open("gone", os.O_CREAT | os.O_RDWR)
os.unlink("gone")
os.write(fd, b"z")
assert os.fstat(fd).st_size == 1 and os.fstat(fd).st_nlink == 0
os.chmod("a", 0o640)
os.chown("a", 1, 1)
assert os.stat("a").st_uid == 1 and os.stat("a").st_mode & 0o777 == 0o640
with open("m", "w+b") as file:
    file.write(b"." * 4096)
    file.flush()
    with mmap.mmap(file.fileno(), 4096) as area:
        area[0:2] = b"hi"
        area.flush()
    assert os.pread(file.fileno(), 2, 0) == b"hi"
names = sorted(os.listdir("."))
assert names == ["D", "a", "a2", "b", "fifo", "m", "s", "t"], names
