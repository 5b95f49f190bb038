"""How soon each service serves again after each fault of its server: `python benchmarks/fault_recovery.py --docs`.

Runs `tests/reference_stack/integration/test_every_fault.py`, in which every fault lasts `--seconds`, and shows what
it measured as a table (four minutes with ten seconds each).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.load.page import put

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "dependency-faults.md"
TEST = "tests/reference_stack/integration/test_every_fault.py"
FAULTS = ("down at start", "down", "hung", "crash")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and show; 1 where a service did not come back, or nothing was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help=f"put the table into {PAGE.name}")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long each fault lasts")
    options = parser.parse_args(argv)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", TEST]
    environment = {**os.environ, "HXP_FAULT_S": str(options.seconds)}
    lines: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None  # a pipe was asked for
        for line in child.stdout:
            sys.stderr.write(line)  # each cell as it comes
            lines.append(line)
    found = recoveries(lines)
    if child.returncode or not found:
        print("nothing is shown: a test failed, or printed no recovery time", file=sys.stderr)
        return 1
    text = table(found, options.seconds)
    print(text)
    if options.docs:
        put("fault_recovery", text, PAGE)
    return 0


def recoveries(lines: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return the seconds that each service took to serve again, by fault, out of what the test prints."""
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        start = line.find("{")  # behind the dots of pytest
        try:
            row = json.loads(line[start:]) if start >= 0 else {}
        except ValueError:
            continue
        if "recovered_s" in row:
            found.setdefault(row["service"], {})[row["fault"]] = row["recovered_s"]
    return found


def table(found: Mapping[str, Mapping[str, float]], lasted_s: float) -> str:
    """Return a row a service, a column a fault."""
    rows = [("service", *(f"{fault}, s" for fault in FAULTS)), ("---",) * (len(FAULTS) + 1)]
    for name, by in sorted(found.items()):
        rows.append((name, *(f"{by[fault]:.2f}" if fault in by else "-" for fault in FAULTS)))
    shown = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"Each fault but the first lasted {lasted_s:g} s.\n\n{shown}"


if __name__ == "__main__":
    sys.exit(main())
