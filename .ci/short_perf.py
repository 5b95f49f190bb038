"""One short performance run, held to what a run promises whatever its verdict: `python .ci/short_perf.py sim|tiny`.

A shared CI machine may be too noisy to measure on, and an honest run then says INVALID or INCONCLUSIVE. So what fails
here is a run without a verdict, a verdict that contradicts its exit code or its own evidence, or a view that is
missing; and a FAIL of the simulation, whose timing is known to be well inside its limits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

EXIT_CODES = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}
RUNS = {
    "sim": (["--model", "mixtral", "--quick"], "simulated", {"PASS", "INCONCLUSIVE", "INVALID"}),
    "tiny": (
        [
            "--model",
            "mixtral",
            "--engine",
            "vllm",
            "--weights",
            "tiny",
            "--quick",
            "--rate",
            "16 rps",
            "--requests",
            "400",
        ],
        "tiny",
        set(EXIT_CODES),
    ),
}
CANARY, LEAST_QUESTIONS = "answers hold under load", 8
VIEWS = ("report.html", "report.md", "junit.xml", "traces.parquet", "profile.yaml", "manifest.json")


def broken_promises(folder: Path, code: int, evidence: str, expected: set[str]) -> list[str]:
    """Return what is wrong with the run in `folder`."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    verdict = record["verdict"]
    wrong = [f"{name} is missing" for name in VIEWS if not (folder / name).exists()]
    if EXIT_CODES[verdict] != code:
        wrong.append(f"the verdict is {verdict}, the exit code {code}")
    if verdict not in expected:
        wrong.append(f"the verdict is {verdict}: {record['reasons']}")
    if record["evidence"] != evidence:
        wrong.append(f"the evidence is {record['evidence']}, not {evidence}")
    if not record["metrics"].get("e2e", {}).get("n"):
        wrong.append("no request was measured")
    if verdict == "PASS" and any(gate["outcome"] != "PASS" for gate in record["gates"]):
        wrong.append("a PASS with a gate that did not pass")
    return wrong + broken_canary(folder, record["checks"])


def broken_canary(folder: Path, checks: list[dict[str, str]]) -> list[str]:
    """Return what is wrong with the fixed questions: all are answered idle, and load changes no answer."""
    wrong = [check["sentence"] for check in checks if (check["name"], check["outcome"]) == (CANARY, "failed")]
    idle = json.loads((folder / "canary.json").read_text(encoding="utf-8"))["idle"]
    if len(idle) < LEAST_QUESTIONS or None in idle:
        wrong.append(f"the fixed questions were not answered: {idle}")
    return wrong


def main(which: str) -> int:
    """Run, and return 1 when a promise is broken."""
    options, evidence, expected = RUNS[which]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        argv = [sys.executable, "-m", "hxp_harness", "perf", *options, "--out", str(folder)]
        code = subprocess.run(argv, check=False).returncode
        if not (folder / "run.json").exists():
            print(f"no record was written; exit code {code}")
            return 1
        wrong = broken_promises(folder, code, evidence, expected)
    print("\n".join(wrong) or f"{which}: exit code {code}, every promise kept")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
