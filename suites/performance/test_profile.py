"""A profile as a test: it passes when the verdict is PASS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hxp_harness.errors import ExitCode
from hxp_harness.request import PerfRequest
from hxp_harness.run import perf


def test_the_profile_is_met(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """The model that --model names meets its profile; the assertion shows the reasons when it does not."""
    option = pytestconfig.getoption
    code = perf(
        PerfRequest(
            profile_name=option("--model"),
            engine=option("--engine"),
            weights=option("--weights"),
            target_url=option("--target"),
            api_model=option("--api-model"),
            quick=True,
            out=tmp_path / "run",
        )
    )

    assert code == ExitCode.PASS, json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["reasons"]
