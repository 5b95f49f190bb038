"""Whole small runs against a golden server, through the program itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden

# The limit is wide, so that a busy test machine can still measure: 1 % of it is what the instrument may be off by.
PROFILE = """\
schema: 1
name: small
title: a small run
service: mixtral
contract:
  prompt_tokens: 16
  output_tokens: 8
  rate: {rate} rps
  timeout: 20 s
  stream: {stream}
gates:
  - {gate}
  - error_rate <= 10 %
replicates: {{count: 2, requests: 100, warm_up: 200 ms}}
seed: 3
"""


@dataclass(frozen=True, slots=True)
class Done:
    """An ended program."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        return found


def program(*words: str) -> list[str]:
    return [sys.executable, "-m", "hxp_harness", *words]


def run_program(folder: Path, *words: str, most_s: float = 120.0, **environ: str) -> Done:
    """Run `hxp` to its end in `folder`; a run of it lies in `folder`/run."""
    done = subprocess.run(
        program(*words),
        capture_output=True,
        text=True,
        timeout=most_s,
        check=False,
        cwd=folder,
        env=os.environ | environ,
    )
    return Done(done.returncode, done.stdout, done.stderr, folder / "run")


def write_profile(folder: Path, gate: str = "e2e p50 <= 20 s", *, rate: int = 50, stream: bool = True) -> Path:
    """Write the small profile; its gate and rate can be changed."""
    file = folder / "small.yaml"
    file.write_text(PROFILE.format(gate=gate, rate=rate, stream=str(stream).lower()), encoding="utf-8")
    return file


def run_small(folder: Path, gate: str = "e2e p50 <= 20 s", **behaviour: Any) -> Done:
    """Run the small profile against a golden server of this behaviour."""
    with golden(folder / "golden", Behaviour(**{"ttft_s": 0.02, "itl_s": 0.002} | behaviour)) as target:
        file = write_profile(folder, gate)
        at = ("--target", target.base_url, "--api-model", target.model)
        return run_program(folder, "perf", "--profile", str(file), *at, "--out", str(folder / "run"))


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One run against a fast server; tests look at it and leave it as it is."""
    return run_small(tmp_path_factory.mktemp("passed"))


@pytest.fixture
def copied(passed: Done, tmp_path: Path) -> Done:
    """A copy of that run, to change."""
    shutil.copytree(passed.folder, tmp_path / "run")
    return replace(passed, folder=tmp_path / "run")
