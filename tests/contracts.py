"""Runs the contract suites and prints how many tests each service has on each leg: python -m tests.contracts"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent / "reference_stack"
FILES = {
    "integration/test_database.py": "database",
    "integration/test_database_keys.py": "database",
    "integration/test_database_runs.py": "database",
    "integration/test_vector_database.py": "vector_database",
    "integration/test_cache.py": "cache",
    "integration/test_metrics.py": "metrics",
    "infrastructure/test_configuration_contract.py": "configuration",
    "infrastructure/test_storage_contract.py": "storage",
}
SUITES = tuple(dict.fromkeys(FILES.values()))
LEGS = ("mock", "embedded", "external")


def counted(report: Path) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Return how many tests passed, by suite and leg, and the names of those that did not."""
    passed: Counter[tuple[str, str]] = Counter()
    other = []
    for case in ET.parse(report).iter("testcase"):
        words = case.get("name", "").partition("[")[2].rstrip("]").split("-")
        leg = next((each for each in LEGS if each in words), "")
        suite = next(
            (name for file, name in FILES.items() if Path(file).stem == case.get("classname", "").split(".")[-1]), ""
        )
        if leg and suite and not len(case.findall("*")):
            passed[suite, leg] += 1
        elif leg and suite:
            other.append(case.get("name", ""))
    return passed, other


def main() -> int:
    """Run them; return pytest's exit code, or 1 where a test did not run."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:randomly", f"--junitxml={report}"]
        legs = " or ".join(LEGS)
        done = subprocess.run([*argv, "-k", legs, *(str(HERE / file) for file in FILES)], check=False)
        passed, other = counted(report)
    print(f"{'service':<18}" + "".join(f"{leg:>10}" for leg in LEGS))
    for suite in SUITES:
        print(f"{suite:<18}" + "".join(f"{passed[suite, leg]:>10}" for leg in LEGS))
    print(f"{'in all':<18}" + "".join(f"{sum(passed[suite, leg] for suite in SUITES):>10}" for leg in LEGS))
    for name in other:
        print(f"not passed: {name}")
    return done.returncode or int(bool(other))


if __name__ == "__main__":
    sys.exit(main())
