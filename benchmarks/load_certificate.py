"""What this machine can certify, and the golden server's check: `python benchmarks/load_certificate.py [--docs]`.

Runs `hxp certify` with a search of the ceiling, and `hxp certify --witness`, and prints what they say. About 3 minutes
with the default search of 2. Nothing here is a test: run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.load.page import put


def said(words: list[str], folder: Path) -> str:
    """Return what `hxp certify` printed, its command first; its progress goes to standard error as it comes."""
    done = subprocess.run(
        [sys.executable, "-m", "hxp_harness", "certify", *words, "--out", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith("evidence: ")]
    return "\n".join([f"$ hxp certify {' '.join(words)}", *lines, f"exit code {done.returncode}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mixtral", help="whose load; default: %(default)s")
    parser.add_argument("--minutes", default="2", help="of search; default: %(default)s")
    parser.add_argument("--docs", action="store_true", help="write it into docs/reference/figures.md too")
    options = parser.parse_args()
    model = ["--model", options.model]
    with tempfile.TemporaryDirectory() as name:
        parts = [
            said([*model, "--search-minutes", options.minutes], Path(name) / "ceiling"),
            said(["--witness"], Path(name) / "witness"),
        ]
    text = "```text\n" + "\n\n".join(parts) + "\n```"
    print(text)
    if options.docs:
        put("load_certificate", text)


if __name__ == "__main__":
    main()
