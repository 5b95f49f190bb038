"""The stages that a request's Python is divided into are there and make up the whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gateway_python import STAGES

ROOT = Path(__file__).parents[2]


def test_the_stages_make_up_the_whole() -> None:
    """Each stage has its functions, takes some of the time, and together with the rest they are all of it."""
    argv = [sys.executable, "-m", "benchmarks.gateway_python", "--rounds", "3", "--stages"]
    done = subprocess.run(argv, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    shares = {name: float(share) for name, share in re.findall(r"^\| (.+) \| ([\d.]+)% \|$", done.stdout, re.MULTILINE)}
    assert list(shares) == [*STAGES, "what ties it together"]
    assert min(shares.values()) > 0
    assert abs(sum(shares.values()) - 100) <= 1
