#!/usr/bin/env python3
"""counts.py RESULTS BROKEN PASSED FAILED: one line that sums the JUnit files of a folder, broken builds and other checks.

A ctest is a program with many tests; its own lines say how each of them ended. Exit status 1 if anything failed or nothing ran.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

ENDED = re.compile(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] \w", re.M)


def inside(case):
    """What the program behind a ctest reported: the lines of its tests, not of its closing list, which names the failed again."""
    text = (case.findtext("system-out") or "").split("[==========] ")
    return [match for part in text[:2] for match in ENDED.findall(part)]


def count(case):
    failed = case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail"
    skipped = case.find("skipped") is not None
    tests = inside(case)
    passes, failures, skips = (tests.count(word) for word in ("OK", "FAILED", "SKIPPED"))
    if not tests:
        passes, skips = int(not failed and not skipped), int(skipped)
    return passes, max(failures, int(failed)), skips


def main():
    folder, *others = sys.argv[1:]
    broken, passed, failed = map(int, others)
    failed += broken
    skipped = 0
    for file in sorted(pathlib.Path(folder).glob("*.xml")):
        for case in ElementTree.parse(file).iter("testcase"):
            p, f, s = count(case)
            passed, failed, skipped = passed + p, failed + f, skipped + s
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
