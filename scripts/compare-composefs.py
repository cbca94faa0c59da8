#!/usr/bin/env python3
"""Compares our mkcomposefs, composefs-info and composefs-dump with a build of the C tools, on random trees.

  compare-composefs.py ORACLE_DIR [--bin DIR] [--count N] [--seed S] [--directories N]

Each tree is a random dump file: images must be equal byte by byte, dumps, names and objects line by line; a dump that
one refuses the other must refuse too. --directories: that many random directories with files, links and xattrs too;
image and object store must be equal. Left out on purpose, where the C tools are wrong: hard links to directories and in
circles, escaped zero bytes, malformed digests, sizes near 2^64, backing paths of 4n+3 bytes (read
back with what lies behind them), ACLs without a value, files with trusted.overlay.whiteout, xattrs that it overwrites with shorter ones; and in dumps of version 1 the marks of whiteouts.
The first difference is kept in a directory that is told; exit status 1."""
import argparse, os, pathlib, random, shutil, stat, subprocess, sys, tempfile

CHARS = [bytes([b]) for b in range(1, 256) if b != 0x2F]


def esc(data, equal=False):
    special = {0x5C: "\\\\", 10: "\\n", 13: "\\r", 9: "\\t"}
    return "".join(
        special.get(b) or (chr(b) if 0x20 < b < 0x7F and not (equal and b == 0x3D) else f"\\x{b:02x}") for b in data)


class Dump:
    """A random tree as dump lines."""

    def __init__(self, rng):
        self.rng = rng
        self.lines = []
        self.files = []  # paths that links may lead to
        self.values = [self.bytes(rng.choice([0, 1, 5, 30, 200])) for _ in range(5)]
        self.names = [p + self.name(12) for p in (b"user.", b"trusted.", b"security.", b"trusted.overlay.",
                                                  b"trusted.overlay.overlay.", b"user.overlay.", b"lustre.", b"")]
        self.names += [b"security.selinux", b"user.overlay.opaque", b"trusted.overlay.opaque", b"user.overlay.whiteouts",
                       b"system.posix_acl_access", b"system.posix_acl_default"]
        self.mtimes = [f"{rng.randrange(-2**33, 2**34)}.{rng.randrange(10**9)}" for _ in range(3)] + ["0.0"]
        if rng.random() < 0.5:
            self.mtimes = self.mtimes[:1]
        self.build()

    def bytes(self, n):
        return bytes(self.rng.randrange(256) for _ in range(n))

    def name(self, most):
        n = self.rng.choice([1, 2, 3, 8, most])
        if self.rng.random() < 0.7:
            return "".join(self.rng.choice("abcdef0123456789.-_!+") for _ in range(n)).encode()
        return b"".join(self.rng.choice(CHARS) for _ in range(n))

    def number(self, *edges):
        return self.rng.choice(edges) if self.rng.random() < 0.2 else self.rng.choice(edges[:2])

    def xattrs(self):
        if self.rng.random() < 0.5:
            return ""
        names = self.rng.sample(self.names, self.rng.randrange(1, 6))
        out = ""
        for name in names:
            value = self.rng.choice(self.values) if self.rng.random() < 0.7 else self.bytes(self.rng.choice([3, 100, 900]))
            if name.startswith(b"system") and not value:
                value = b"acl"
            out += f" {esc(name, True)}={esc(value, True)}" if name else ""
        return out

    def add(self, path, mode, size=0, payload="-", content="-", digest="-", rdev=0, nlink=None):
        r = self.rng
        nlink = nlink if nlink is not None else self.number(1, 1, 2, 65535, 65536, 2**32 - 1)
        uid, gid = self.number(0, 0, 1000, 65535, 65536, 2**32 - 1), self.number(0, 0, 1000, 65535, 65536)
        self.lines.append(f"{esc(path)} {size} {mode:o} {nlink} {uid} {gid} {rdev} {r.choice(self.mtimes)} {payload} "
                          f"{content} {digest}{self.xattrs()}")

    def target(self, data):
        return "\\x2d" if data == b"-" else esc(data)

    def entry(self, path):
        r = self.rng
        kind = r.random()
        permissions = r.choice([0o644, 0o755, 0o600, 0o4755, 0])
        if kind < 0.25:
            size = r.choice([1, 64, 65, 4096, 2**32 - 1, 2**32, 2**43 + 1, r.randrange(1, 2**40)])
            if r.random() < 0.05:
                size = 2**43 * r.randrange(2, 1030)
            digest = r.choice(["-", f"{r.randrange(2**256):064x}", "ab" * 32])
            payload = r.choice(["-", "obj/ects", digest[:2] + "/" + digest[2:] if digest != "-" else "x"])
            self.add(path, 0o100000 | permissions, size, payload, digest=digest)
        elif kind < 0.4:
            data = self.bytes(r.choice([0, 1, 30, 64, 500, 2000, 2048, 2049, 4095, 4096, 4999, 5000, r.randrange(5001)]))
            self.add(path, 0o100000 | permissions, len(data), content=self.target(data))
        elif kind < 0.55:
            n = r.choice([1, 10, 60, 500, 2000, 4000, 4031, 4032, 4064, 4095, r.randrange(1, 4096)])
            data = b"".join(r.choice(CHARS + [b"/"]) for _ in range(n)) if r.random() < 0.5 else b"t" * n
            self.add(path, 0o120777, r.choice([0, len(data)]), self.target(data))
        elif kind < 0.65:
            self.add(path, 0o20000 | permissions)
        elif kind < 0.75:
            self.add(path, r.choice([0o20000, 0o60000, 0o10000, 0o140000]) | permissions, r.choice([0, 0, 2**33]),
                     rdev=r.choice([0, 1, 259, 2**32 - 1]))
        elif kind < 0.85 and self.files:
            self.lines.append(f"{esc(path)} 0 @100644 1 0 0 0 0.0 {self.target(r.choice(self.files))} - -")
            return
        else:
            self.add(path, 0o100000 | permissions)
        self.files.append(path)

    def build(self):
        r = self.rng
        dirs = [b""]
        self.add(b"/", 0o40755)
        seen = set()
        for _ in range(r.choice([0, 1, 3, 20, 60, 250])):
            parent = r.choice(dirs)
            name = self.name(r.choice([20, 100, 255]))
            if parent == b"" and r.random() < 0.3:
                name = f"{r.randrange(256):02x}".encode()
            path = parent + b"/" + name
            if name in (b".", b"..") or (path in seen and r.random() < 0.97):
                continue
            seen.add(path)
            if r.random() < 0.2 and len(path) < 3000:
                self.add(path, 0o40000 | r.choice([0o755, 0o700, 0o1777]), r.choice([0, 4096, 2**40]))
                dirs.append(path)
            else:
                self.entry(path)
        if r.random() < 0.15:  # a directory of many blocks
            parent = r.choice(dirs)
            for i in range(r.randrange(100, 2000)):
                path = parent + b"/many" + str(i).encode() + b"m" * r.randrange(30)
                if path not in seen:
                    seen.add(path)
                    self.entry(path) if i % 50 == 0 else self.add(path, 0o100644)
        if r.random() < 0.04:
            self.break_it()

    def break_it(self):
        r = self.rng
        i = r.randrange(len(self.lines))
        words = self.lines[i].split(" ")
        field = r.choice([1, 2, 3, 4, 7, 8, 9])  # gid and rdev the C tool does not check
        words[field] = r.choice(["", "x", "-", "12345678", "\\q", "a" * 5000])
        self.lines[i] = " ".join(words)


def run(*command, **more):
    return subprocess.run([str(c) for c in command], capture_output=True, timeout=60, stdin=subprocess.DEVNULL, **more)


def without_marks(text):
    return text.replace(b" trusted.overlay.opaque=x", b"").replace(b" user.overlay.opaque=x", b"")


class Comparison:
    def __init__(self, oracle, ours, work):
        self.oracle, self.ours, self.work = oracle, ours, work
        self.refused = 0
        self.refused_wrongly = 0

    def differ(self, what):
        print(f"DIFFERENT: {what}; see {self.work}", flush=True)
        sys.exit(1)

    def both(self, what, tool, arguments_of):
        results = []
        for side, directory in (("oracle", self.oracle), ("ours", self.ours)):
            results.append(run(directory / tool, *arguments_of(side)))
        # Overwriting a longer xattr takes the C tool's unsigned budget below 0.
        if results[0].returncode == 1 and b"cannot write file: Numerical result out of range" in results[0].stderr:
            self.refused_wrongly += 1
            return results
        if (results[0].returncode == 0) != (results[1].returncode == 0) or results[1].returncode not in (0, 1):
            self.differ(f"{what}: exit {results[0].returncode} and {results[1].returncode}: "
                        f"{results[0].stderr!r} {results[1].stderr!r}")
        return results

    def same_files(self, what, name):
        if (self.work / f"oracle{name}").read_bytes() != (self.work / f"ours{name}").read_bytes():
            self.differ(what)

    def dump(self, lines, rng):
        (self.work / "tree.dump").write_text("\n".join(lines) + ("\n" if rng.random() < 0.9 else ""))
        versions = rng.choice([[], [], ["--min-version=1"], ["--max-version=0"], ["--max-version", "1"]])
        made = self.both("mkcomposefs", "mkcomposefs", lambda side: [
            "--from-file", "--print-digest", *versions, self.work / "tree.dump", self.work / f"{side}.img"])
        if made[0].returncode != 0:
            self.refused += 1
            return
        if made[0].stdout != made[1].stdout:
            self.differ("digest")
        self.same_files("image", ".img")
        image = self.work / "ours.img"
        names = [f"--filter={os.fsdecode(b'00')}"] if rng.random() < 0.1 else []
        for command in ("ls", "dump", "objects"):
            told = self.both(command, "composefs-info", lambda side: [*names, command, image])
            if told[0].stdout != told[1].stdout and (
                    command != "dump" or without_marks(told[0].stdout) != without_marks(told[1].stdout)):
                (self.work / "oracle.out").write_bytes(told[0].stdout)
                (self.work / "ours.out").write_bytes(told[1].stdout)
                self.differ(f"composefs-info {command}")
        again = self.both("composefs-dump", "composefs-dump", lambda side: [image, self.work / f"{side}.again"])
        if again[0].returncode == 0:
            self.same_files("composefs-dump", ".again")

    def directory(self, rng):
        source = self.work / "source"
        shutil.rmtree(source, ignore_errors=True)
        make_directory(source, rng)
        for side in ("oracle", "ours"):
            shutil.rmtree(self.work / f"{side}.store", ignore_errors=True)
        more = [o for o in ("--use-epoch", "--skip-devices", "--threads=3") if rng.random() < 0.3]
        more += rng.choice([[], [], ["--skip-xattrs"], ["--user-xattrs"]])
        made = self.both("directory", "mkcomposefs", lambda side: [
            "--print-digest", f"--digest-store={self.work / side}.store", *more, source, self.work / f"{side}.img"])
        if made[0].returncode != 0 or made[0].stdout != made[1].stdout:
            self.differ("image of a directory")
        self.same_files("image of a directory", ".img")
        listing = [sorted((str(p.relative_to(self.work / f"{side}.store")), stat.filemode(p.stat().st_mode),
                           p.read_bytes() if p.is_file() else b"") for p in (self.work / f"{side}.store").rglob("*"))
                   if (self.work / f"{side}.store").exists() else [] for side in ("oracle", "ours")]
        if listing[0] != listing[1]:
            self.differ("object stores")


def make_directory(path, rng, depth=0):
    path.mkdir()
    for i in range(rng.choice([0, 1, 4, 15, 80])):
        child = path / f"{rng.choice('abcxyz')}{i}"
        kind = rng.random()
        if kind < 0.15 and depth < 4:
            make_directory(child, rng, depth + 1)
        elif kind < 0.7:
            n = rng.choice([0, 1, 63, 64, 65, 4095, 4096, 4097, 524288, 524289, 600000, rng.randrange(20000)])
            if rng.random() < 0.01:
                n = rng.choice([2**20, 2**20 + 1, 2**24 - 1, 2**24, 2**24 + 5])
            child.write_bytes(rng.randbytes(n))
            child.chmod(rng.choice([0o644, 0o600, 0o4755]))
        elif kind < 0.85:
            child.symlink_to("t" * rng.choice([1, 20, 300, 4000]))
        elif kind < 0.9:
            os.mkfifo(child)
        elif kind < 0.95 and os.geteuid() == 0:
            os.mknod(child, rng.choice([stat.S_IFCHR, stat.S_IFBLK]) | 0o600, os.makedev(rng.choice([0, 1]), rng.choice([0, 3])))
        else:
            child.write_bytes(b"linked" * 20)
            os.link(child, path / f"link{i}")
        if rng.random() < 0.3 and not child.is_symlink() and (child.is_file() or child.is_dir()):
            os.setxattr(child, f"user.{rng.choice('ab')}", rng.choice([b"", b"value", b"x" * 500]))
            if os.geteuid() == 0:
                os.setxattr(child, "trusted.overlay.opaque" if rng.random() < 0.5 else "trusted.t", b"y")
        if rng.random() < 0.5:
            os.utime(child, ns=(0, rng.choice([0, 10**18 + 5, -10**15, 2**33 * 10**9])), follow_symlinks=False)
    path.chmod(0o755)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("oracle")
    parser.add_argument("--bin", default="build/bin")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--directories", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    oracle = pathlib.Path(options.oracle).resolve()
    oracle = oracle / "tools" if (oracle / "tools/mkcomposefs").exists() else oracle
    work = pathlib.Path(tempfile.mkdtemp(prefix="compare-composefs."))
    comparison = Comparison(oracle, pathlib.Path(options.bin).resolve(), work)
    lines = 0
    for seed in range(options.seed, options.seed + options.count):
        (work / "seed").write_text(f"dump {seed}\n")
        rng = random.Random(seed)
        dump = Dump(rng).lines
        lines += len(dump)
        comparison.dump(dump, rng)
    for seed in range(options.seed, options.seed + options.directories):
        (work / "seed").write_text(f"directory {seed}\n")
        comparison.directory(random.Random(seed))
    shutil.rmtree(work)
    print(f"equal: {options.count} dumps of {lines} lines ({comparison.refused} refused, {comparison.refused_wrongly} of them only by the "
          f"C tool's budget), "
          f"{options.directories} directories")


main()
