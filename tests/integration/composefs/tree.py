#!/usr/bin/env python3
"""Everything about a tree that an image keeps, one line for each name: tree.py [--trusted] [--no-owners] [--links] DIR."""
import hashlib
import os
import stat
import sys

options, top = set(sys.argv[1:-1]), os.fsencode(sys.argv[-1])


def xattrs(path):
    names = [name for name in os.listxattr(path, follow_symlinks=False)
             if name.startswith("user.") or "--trusted" in options]
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}


def describe(path):
    st = os.lstat(path)
    words = [stat.filemode(st.st_mode), st.st_mtime_ns, xattrs(path)]
    if "--no-owners" not in options:
        words += [st.st_uid, st.st_gid]
    if stat.S_ISREG(st.st_mode):
        with open(path, "rb") as file:
            content = file.read()
        assert len(content) == st.st_size, path
        words += [st.st_size, hashlib.sha256(content).hexdigest()]
    elif stat.S_ISLNK(st.st_mode):
        words += [st.st_size, os.readlink(path)]
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        words += [os.major(st.st_rdev), os.minor(st.st_rdev)]
    if "--links" in options:
        words.append(st.st_nlink)
    return words


names = [top]
for parent, dirs, files in os.walk(top):
    names += [os.path.join(parent, name) for name in dirs + files]
for path in sorted(names):
    print(os.path.relpath(path, top), *describe(path))
