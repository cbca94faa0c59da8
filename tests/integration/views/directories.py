# directories.py DIR: what becomes of those who are in a directory (by working directory or descriptor) that is renamed,
# removed, replaced. Prints what they see; the same below any DIR of a file system that works.
import errno, os, sys

top = sys.argv[1]


def path(name):
    return f"{top}/{name}"


def write(name, text, dir_fd=None):
    with open(name, "w", opener=lambda file, flags: os.open(file, flags, 0o644, dir_fd=dir_fd)) as file:
        file.write(text)


def tell(what, *values):
    print(f"{what}:", *values, flush=True)


def names(directory):
    return sorted(os.listdir(directory))


def attempt(call, *arguments, **named):
    try:
        return call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]


def make(name, text):
    os.mkdir(path(name))
    write(path(f"{name}/file"), text)


def renamed_and_made_again():
    make("out", "first")
    os.chdir(path("out"))
    os.rename(path("out"), path("out.bak"))
    tell("where it is now", names("."), open("file").read())
    make("out", "second")
    tell("still there", open("file").read())
    write("more", "more")
    os.unlink("file")
    tell("out", names(path("out")), "out.bak", names(path("out.bak")), "here", names("."))
    os.rename(path("out.bak"), path("out.old"))
    write("last", "last")
    tell("out", names(path("out")), "out.old", names(path("out.old")))
    os.rename(path("out"), path("out.new"))
    os.rename(path("out.old"), path("out"))
    write("back", "back")
    tell("out", names(path("out")), "out.new", names(path("out.new")))


def by_descriptor():
    make("w", "old")
    fd = os.open(path("w"), os.O_RDONLY)
    os.rename(path("w"), path("w.old"))
    make("w", "new")
    os.stat(path("w"))
    os.unlink("file", dir_fd=fd)
    os.mkdir("made", dir_fd=fd)
    tell("w", names(path("w")), "w.old", names(path("w.old")), "by descriptor", sorted(os.listdir(fd)))
    os.rename("made", "moved", src_dir_fd=fd, dst_dir_fd=fd)
    os.rmdir("moved", dir_fd=fd)
    tell("w.old", names(path("w.old")))
    os.close(fd)


def removed_and_made_again():
    os.mkdir(path("k"))
    os.chdir(path("k"))
    os.rmdir(path("k"))
    tell("nothing is made in it", attempt(write, "x", "x"))
    os.mkdir(path("k"))
    tell("nor later", attempt(write, "x", "x"), attempt(os.mkdir, "y"))
    write(path("k/z"), "z")
    # Without a view, and not as root, one cannot even look into it.
    tell("names", attempt(names, ".") in ([], "ENOENT"), names(path("k")))
    tell("not removed from here", attempt(os.unlink, "z"), names(path("k")))
    os.chdir(path("k"))
    tell("entered anew", names("."))


def replaced():
    make("from", "from")
    os.mkdir(path("to"))
    to = os.open(path("to"), os.O_RDONLY)
    source = os.open(path("from"), os.O_RDONLY)
    os.rename(path("from"), path("to"))
    os.mkdir(path("from"))
    write("source", "", dir_fd=source)
    tell("to", attempt(write, "to", "", dir_fd=to), names(path("to")), "from", names(path("from")))
    os.close(to)
    os.close(source)


def two_ways():
    make("s", "1")
    os.chdir(path("s"))
    os.mkdir("sub")
    os.rename(path("s"), path("s2"))
    tell("by path", open(path("s2/file")).read(), os.path.exists(path("s2/new")), names(path("s2")))
    write("new", "2")
    os.unlink("file")
    tell("by path", os.path.exists(path("s2/new")), os.path.exists(path("s2/file")), names(path("s2")))
    os.rename("new", "newer")
    os.link("newer", "link")
    os.symlink("newer", "symlink")
    os.rmdir("sub")
    os.chmod(".", 0o700)
    os.utime(".", (1000, 1000))
    tell("by path", names(path("s2")), oct(os.stat(path("s2")).st_mode), os.stat(path("s2")).st_mtime)
    tell("by path", os.path.exists(path("s2/new")), os.path.exists(path("s2/sub")), os.stat(path("s2/link")).st_nlink)
    os.mkdir(path("s2/by-path"))
    os.unlink(path("s2/link"))
    write("by-path/file", "here")
    tell("here", names("."), os.path.exists("link"), open(path("s2/by-path/file")).read())
    os.unlink(path("s2/by-path/file"))
    os.rmdir(path("s2/by-path"))
    tell("here", names("."), attempt(os.stat, "by-path"))


def deeper():
    make("a", "a")
    make("a/b", "b")
    fd = os.open(path("a"), os.O_RDONLY)
    os.chdir(path("a/b"))
    os.rename(path("a"), path("a.bak"))
    os.mkdir(path("a"))
    os.mkdir(path("a/b"))
    write("mine", "mine")
    tell("a/b", names(path("a/b")), "a.bak/b", names(path("a.bak/b")), "here", names("."))
    os.rename("b", "c", src_dir_fd=fd, dst_dir_fd=fd)
    os.mkdir("b", dir_fd=fd)
    write("b/other", "other", dir_fd=fd)
    write("more", "more")
    tell("a.bak", names(path("a.bak")), names(path("a.bak/b")), names(path("a.bak/c")), "here", names("."))
    os.rename(path("a.bak/c"), path("a.bak/d"))
    os.mkdir(path("a.bak/c"))
    os.unlink("more")
    tell("a.bak", names(path("a.bak")), names(path("a.bak/c")), names(path("a.bak/d")))
    os.close(fd)


for scenario in (renamed_and_made_again, by_descriptor, removed_and_made_again, replaced, two_ways, deeper):
    print(f"--- {scenario.__name__}", flush=True)
    try:
        scenario()
    except OSError as error:
        tell("failed", error)
    os.chdir("/")
