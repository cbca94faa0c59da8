#!/usr/bin/env python3
"""Counts single cases in a ctest JUnit file and prints "PASSED FAILED SKIPPED".

One ctest entry may be a GoogleTest program, run once or several times (its own summary lines are added up), or a
script that ends with `N passed, N failed[, N skipped]`, or neither (it counts as one case). An entry that failed
without counting a failure itself, by a crash or a timeout, counts as one. Failures are shown on stderr, and so are
the slowest entries.
"""

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree

GTEST = {
    "passed": re.compile(r"^\[  PASSED  \] (\d+) tests?\.", re.M),
    "failed": re.compile(r"^\[  FAILED  \] (\d+) tests?, listed below", re.M),
    "skipped": re.compile(r"^\[  SKIPPED \] (\d+) tests?, listed below", re.M),
}
SCRIPT = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)


def count(output: str) -> tuple[int, int, int]:
    numbers = [sum(map(int, pattern.findall(output))) for pattern in GTEST.values()]
    for passed, failed, skipped in SCRIPT.findall(output):
        for i, value in enumerate((passed, failed, skipped or "0")):
            numbers[i] += int(value)
    return numbers[0], numbers[1], numbers[2]


def why(output: str) -> list[str]:
    """The lines that say what went wrong: of GoogleTest, each failure up to the end of its test; else the last ones."""
    lines, shown, inside = output.splitlines(), [], False
    for line in lines:
        inside = inside or line.endswith(": Failure")
        if inside or line.startswith("[  FAILED  ]"):
            shown.append(line)
        if line.startswith("[  FAILED  ]"):
            inside = False
    return shown or lines[-40:]


def short(lines: list[str]) -> list[str]:
    """Its beginning and its end."""
    return lines if len(lines) <= 80 else [*lines[:40], "...", *lines[-40:]]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("junit")
    parser.add_argument("--ctest-status", type=int, default=0)
    parser.add_argument("--log", default="")
    options = parser.parse_args()

    try:
        entries = list(ElementTree.parse(options.junit).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        print(f"{options.junit}: {error}", file=sys.stderr)
        if options.log:
            print(open(options.log, errors="replace").read()[-4000:], file=sys.stderr)
        print("0 1 0")
        return 1

    total = [0, 0, 0]
    for entry in entries:
        output = entry.findtext("system-out") or ""
        passed, failed, skipped = count(output)
        status = entry.get("status")
        if status in ("notrun", "disabled"):
            skipped += 1
        elif status == "fail":
            if failed == 0:
                failed = 1
            print(f"--- {entry.get('name')} failed:", *short(why(output)), sep="\n", file=sys.stderr)
        elif passed + failed + skipped == 0:
            passed = 1
        total = [a + b for a, b in zip(total, (passed, failed, skipped))]

    if options.ctest_status != 0 and total[1] == 0:
        total[1] = 1
        print(f"ctest exited {options.ctest_status} (see {options.log})", file=sys.stderr)
    slowest = sorted(entries, key=lambda e: -float(e.get("time") or 0))[:5]
    print("slowest: " + ", ".join(f"{e.get('name')} {float(e.get('time') or 0):.1f}s" for e in slowest), file=sys.stderr)
    print(*total)
    return 0 if total[1] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
