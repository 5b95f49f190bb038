"""Print, from JUnit files, what ran and what could not, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def main(folder: Path) -> None:
    """Print one line a suite, then every test that was skipped, with its reason."""
    skipped: list[str] = []
    print(f"\n{'suite':<14}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}")
    for file in sorted(folder.glob("*.xml")):
        counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        seconds = 0.0
        for suite in ET.parse(file).iter("testsuite"):
            for name in counts:
                counts[name] += int(suite.get(name, 0))
            seconds += float(suite.get("time", 0))
            for case in suite.iter("testcase"):
                reason = case.find("skipped")
                if reason is not None:
                    skipped.append(f"  {file.stem}: {case.get('name')}: {reason.get('message')}")
        bad = counts["failures"] + counts["errors"]
        passed = counts["tests"] - bad - counts["skipped"]
        print(f"{file.stem:<14}{passed:>8}{bad:>8}{counts['skipped']:>8}{seconds:>9.1f}")
    print("not run, and why:", *(skipped or ["  nothing"]), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
