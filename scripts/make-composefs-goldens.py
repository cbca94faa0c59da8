#!/usr/bin/env python3
"""Writes tests/data/composefs/*.dump, each about one feature or limit of composefs images, and with --record ORACLE_DIR
(a build of the C tools) digests.txt: for each dump the digests of its images of version 0, of version 1, and of the
version that is chosen by default. Images must have these digests for ever: tests/unit/composefs/golden_test.cc."""
import argparse, pathlib, subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent / "tests/data/composefs"
DIGEST = "8a" * 32
HEX = "".join(f"{i:02x}" for i in range(32))


def esc(data, equal=False):
    if isinstance(data, str):
        data = data.encode()
    special = {0x5C: "\\\\", 10: "\\n", 13: "\\r", 9: "\\t"}
    return "".join(
        special.get(b) or (chr(b) if 0x20 < b < 0x7F and not (equal and b == 0x3D) else f"\\x{b:02x}") for b in data)


def line(path, mode="100644", size=0, nlink=1, uid=0, gid=0, rdev=0, mtime="0.0", payload="-", content="-", digest="-",
         xattrs=()):
    words = [esc(path), size, mode, nlink, uid, gid, rdev, mtime, payload, content, digest]
    return " ".join(map(str, words)) + "".join(f" {esc(k, True)}={esc(v, True)}" for k, v in xattrs)


def root(**more):
    return line("/", "40755", nlink=2, **more)


def backed(path, size=100, digest=DIGEST, payload=None, **more):
    return line(path, size=size, digest=digest, payload=payload or f"{digest[:2]}/{digest[2:]}", **more)


def inline(path, data, **more):
    return line(path, size=len(data), content=esc(data) if data != b"-" else "\\x2d", **more)


def link(path, target, **more):
    return line(path, "120777", size=len(target), payload=esc(target) if target != "-" else "\\x2d", **more)


def whiteout(path, **more):
    return line(path, "20644", **more)


def hard(path, target, mode="100644"):
    return line(path, "@" + mode, payload=esc(target))


CASES = {
    "empty-root": [root()],
    "root-mode-owner": [line("/", "41777", uid=1000, gid=65535)],
    "root-xattrs": [root(xattrs=[("security.selinux", "system_u:object_r:root_t:s0\0"), ("user.a", "b")])],
    "empty-file": [root(), line("/f")],
    "inline-1": [root(), inline("/f", b"x")],
    "inline-dash": [root(), inline("/f", b"-")],
    "inline-64": [root(), inline("/f", b"y" * 64)],
    "inline-bytes": [root(), inline("/f", bytes(range(256)))],
    "inline-2048": [root(), inline("/f", b"z" * 2048)],
    "inline-2049": [root(), inline("/f", b"z" * 2049)],
    "inline-4096": [root(), inline("/f", b"q" * 4096)],
    "inline-5000": [root(), inline("/f", b"w" * 5000)],
    "inline-mixed": [root()] + [inline(f"/f{n:04}", bytes([65 + n % 26]) * n) for n in range(1, 5000, 311)],
    "backed": [root(), backed("/f")],
    "backed-no-digest": [root(), line("/f", size=100, payload="some/where")],
    "backed-no-path": [root(), line("/f", size=100, digest=HEX)],
    "backed-nothing": [root(), line("/f", size=100)],
    "backed-slash-path": [root(), line("/f", size=100, payload="/absolute/path", digest=HEX)],
    "backed-same-object": [root()] + [backed(f"/f{i}") for i in range(5)],
    "backed-empty-with-digest": [root(), line("/f", size=0, payload="aa/bb", digest=HEX)],
    "chunk-sizes": [root()] + [backed(f"/s{n:02}", size=2**n + d) for n in range(1, 53, 3) for d in (0,)],
    "chunk-edges": [root()] + [backed(f"/e{n}", size=n) for n in (1, 4095, 4096, 4097, 2**32 - 1, 2**32, 2**32 + 1)],
    "chunks-two": [root(), backed("/f", size=2**43 + 1)],
    "chunks-many": [root(), backed("/a", size=900 * 2**43), backed("/b", size=1000 * 2**43)],
    "chunks-most": [root(), backed("/f", size=2**53)],
    "chunks-out-of-line": [root()] + [backed(f"/f{n}", size=2**53 - n * 2**43) for n in range(9)],
    "symlink-short": [root(), link("/l", "t")],
    "symlink-dash": [root(), link("/l", "-")],
    "symlink-long": [root(), link("/l", "x" * 4000)],
    "symlink-4031": [root(), link("/l", "x" * 4031)],
    "symlink-4032": [root(), link("/l", "x" * 4032)],
    "symlink-4063": [root(), link("/l", "x" * 4063, mtime="5.5")],
    "symlink-4064": [root(), link("/l", "x" * 4064)],
    "symlink-4095": [root(), link("/l", "y" * 4095)],
    "symlinks-block-edge": [root()] + [link(f"/l{n:03}", "z" * n) for n in range(600, 1500, 37)],
    "symlink-long-xattrs": [root(), link("/l", "x" * 3000, xattrs=[("trusted.big", "v" * 3000)])],
    "symlinks-out-of-line": [root()] + [link(f"/l{n}", chr(97 + n) * 4090) for n in range(6)],
    "whiteout": [root(), line("/d", "40755", nlink=2), whiteout("/d/gone")],
    "whiteout-root": [root(), whiteout("/gone"), whiteout("/5f")],
    "whiteout-modes": [root(), line("/w", "20000"), line("/x", "20777", uid=3, gid=4)],
    "whiteout-over-xattrs": [root(xattrs=[("user.overlay.opaque", "y"), ("trusted.overlay.opaque", "y")]),
                             whiteout("/w", xattrs=[("user.overlay.whiteout", "mine"), ("user.z", "1")])],
    "whiteout-size": [root(), line("/w", "20644", size=2**33)],
    "whiteout-linked": [root(), whiteout("/w"), hard("/v", "/w", "20644")],
    "escapes": [root(), line("/d", "40755", nlink=2, xattrs=[("trusted.overlay.opaque", "y")]),
                line("/f", xattrs=[("trusted.overlay.metacopy", ""), ("trusted.overlay.redirect", "/x")]),
                line("/n", xattrs=[("trusted.overlay.overlay.opaque", "y"), ("trusted.overlay.overlay.overlay.z", "")])],
    "overlay-user-xattrs": [root(), line("/f", xattrs=[("user.overlay.redirect", "/x"), ("user.overlay.a", "")])],
    "overlay-almost-names": [root(), line("/f", xattrs=[("trusted.overlay", "1"), ("trusted.overlayx.y", "2")])],
    "fan-out-names": [root()] + [line(f"/{n:02x}", "40755", nlink=2) for n in (0, 9, 10, 255)] +
                     [line("/0", "100644"), line("/000"), line("/zz")],
    "fan-out-linked": [root(), line("/a0"), hard("/a1", "/a0")],
    "hard-links": [root(), line("/a", nlink=3), hard("/b", "/a"), line("/d", "40755", nlink=2), hard("/d/c", "/a")],
    "hard-link-forward": [root(), hard("/a", "/z"), line("/z", nlink=2)],
    "hard-link-chain": [root(), hard("/a", "/b"), hard("/b", "/c"), line("/c", nlink=3)],
    "hard-link-symlink": [root(), link("/l", "target", nlink=2), hard("/m", "/l", "120777")],
    "hard-link-nlink-kept": [root(), line("/a", nlink=77), hard("/b", "/a")],
    "types": [root(), line("/c", "20666", rdev=259), line("/b", "60660", rdev=2049), line("/p", "10644"),
              line("/s", "140755"), line("/x", "104755"), line("/t", "41777", nlink=2)],
    "device-numbers": [root(), line("/a", "20666", rdev=2**32 - 1), line("/b", "60666", rdev=0),
                       line("/c", "20666", rdev=2**31)],
    "device-size": [root(), line("/c", "20666", rdev=5, size=2**40), line("/p", "10644", size=2**40)],
    "nlink-large": [root(), line("/a", nlink=65535), line("/b", nlink=65536), line("/c", nlink=2**32 - 1)],
    "owner-large": [root(), line("/a", uid=65535, gid=65535), line("/b", uid=65536), line("/c", gid=2**32 - 1)],
    "times": [root(mtime="100.5"), line("/a", mtime="100.5"), line("/b", mtime="100.6"), line("/c", mtime="101.5")],
    "times-before-1970": [root(mtime="-5.0"), line("/a", mtime="-2208988800.999999999"), line("/b", mtime="0.0")],
    "times-past-2038": [root(mtime="2147483648.0"), line("/a", mtime="4294967296.1"), line("/b", mtime="253402300799.9")],
    "times-limits": [root(mtime="9223372036854775807.999999999"), line("/a", mtime="-9223372036854775808.0")],
    "xattr-kinds": [root(), line("/f", xattrs=[("user.u", "1"), ("trusted.t", "2"), ("security.s", "3"),
                                                ("system.other", "4"), ("lustre.lov", "5"), ("bare", "6")])],
    "xattr-acl": [root(), line("/f", xattrs=[("system.posix_acl_access", bytes([2, 0, 0, 0, 1, 0, 6, 0]))]),
                  line("/d", "40755", nlink=2, xattrs=[("system.posix_acl_default", "\2\0\0\0")])],
    "xattr-acl-suffix": [root(), line("/f", xattrs=[("system.posix_acl_accessory", "x")])],
    "xattr-shared": [root()] + [line(f"/f{i}", xattrs=[("security.selinux", "a_t:s0"), ("user.n", str(i % 3))])
                                for i in range(9)],
    "xattr-shared-order": [root()] + [line(f"/f{i}", xattrs=[("user.a", "1"), ("user.a.b", "22"), ("user.b", "22"),
                                      ("trusted.a", "333"), ("user.c", "x" * (1 + i % 2)), ("user.d", "yz"[i % 2])])
                                      for i in range(4)],
    "xattr-shared-most": [root()] + [line(f"/f{i}", xattrs=[(f"user.{n:03}", "v") for n in range(140)])
                                     for i in range(2)],
    "xattr-values": [root(), line("/f", xattrs=[("user.empty", ""), ("user.bytes", bytes(range(256))),
                                                 ("user.equal=sign", "a=b")])],
    "xattr-long-name": [root(), line("/f", xattrs=[("user." + "n" * 250, "v"), ("x" * 255, "v")])],
    "xattr-long-value": [root(), line("/f", xattrs=[("user.v", "v" * 32000)])],
    "xattr-twice": [root(), line("/f", xattrs=[("user.a", "first"), ("user.b", "x"), ("user.a", "second")])],
    "xattr-tail": [root()] + [inline(f"/f{n:02}", b"t" * 1500, xattrs=[("user.v", "v" * (n * 97))]) for n in range(20)],
    "names-bytes": [root()] + [line(b"/n" + bytes([b])) for b in range(1, 256) if b != 0x2F],
    "names-before-dot": [root(), line("/d", "40755", nlink=2), line("/d/!"), line("/d/-"), line("/d/+x"), line("/d/...")],
    "names-long": [root(), line("/" + "a" * 255), line("/" + "b" * 255, "40755", nlink=2), line("/" + "b" * 255 + "/c")],
    "dir-tail-2048": [root(), line("/d", "40755", nlink=2)] + [line(f"/d/{i:02}" + "n" * 86) for i in range(20)] +
                     [line("/d/zz" + "m" * 7)],
    "dir-blocks": [root(), line("/d", "40755", nlink=2)] + [line(f"/d/{i:03}" + "n" * 60) for i in range(300)],
    "dir-unsorted": [root(), line("/z"), line("/b", "40755", nlink=2), line("/a"), line("/b/y"), line("/b/c")],
    "dir-10000": [root(), line("/d", "40755", nlink=2)] + [line(f"/d/{i:05}") for i in range(10000)],
    "deep": [root()] + [line("/d" * n, "40755", nlink=3) for n in range(1, 200)],
    "wide-and-mixed": [root()] + [text for d in range(12) for text in
                                  [line(f"/dir{d}", "40755", nlink=2, mtime=f"{d}.0")] +
                                  [backed(f"/dir{d}/f{i}", size=i * 1000 + 65, digest=f"{d:02x}{i:02x}" * 16,
                                          xattrs=[("security.selinux", f"t{d % 3}")]) for i in range(10)]],
    "odd-paths": [root(), line("/d", "40755", nlink=2), line("//d//f"), line("d/g")],
    "odd-numbers": [line("/", "040755"), line("/f", "+0100644", uid="-1", gid="+7", mtime="-1.-1")],
    "lines-unterminated": [root(), "/l 4 120777 1 0 0 0 0.0 goal -"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", metavar="ORACLE_DIR")
    options = parser.parse_args()
    HERE.mkdir(parents=True, exist_ok=True)
    for old in HERE.glob("*.dump"):
        old.unlink()
    rows = []
    for name, lines in sorted(CASES.items()):
        path = HERE / f"{name}.dump"
        path.write_text("\n".join(lines) + ("" if name == "lines-unterminated" else "\n"))
        if options.record:
            tool = next(p for p in (pathlib.Path(options.record) / "tools/mkcomposefs",
                                    pathlib.Path(options.record) / "mkcomposefs") if p.exists())
            digests = [subprocess.run([tool, "--from-file", "--print-digest-only", *more, path], check=True,
                                      capture_output=True, text=True).stdout.strip()
                       for more in (["--max-version=0"], ["--min-version=1"], [])]
            rows.append(" ".join([name, *digests]))
    if options.record:
        (HERE / "digests.txt").write_text("\n".join(rows) + "\n")
    print(f"{len(CASES)} dumps")


main()
