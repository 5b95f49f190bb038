"""A server that is fast because it cheats is INVALID, by the name of the check that caught it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from tests.hxp_harness.run.conftest import Done, run_program, write_profile

HONEST: Mapping[str, Any] = {"ttft_s": 0.05, "itl_s": 0.01}  # 24 requests open at 200 a second


def run_long(folder: Path, **behaviour: Any) -> Done:
    """Run long enough for the canary: 4,000 requests in twenty seconds."""
    with golden(folder / "golden", Behaviour(**{**HONEST, **behaviour})) as target:
        file = write_profile(folder, rate=200)
        at = ("--target", target.base_url, "--api-model", target.model, "--out", str(folder / "run"))
        return run_program(folder, "perf", "--profile", str(file), *at, "--requests", "2000", most_s=400)


def checks(done: Done) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in done.record["checks"]}


@pytest.mark.owasp("LLM09:2025")
def test_other_answers_under_load_are_invalid(tmp_path: Path) -> None:
    """A server that says nonsense as soon as two requests are open is as fast as ever, and INVALID."""
    done = run_long(tmp_path, garble_from=2)
    canary = json.loads((tmp_path / "run" / "canary.json").read_text(encoding="utf-8"))

    assert done.code == 4, done.err + done.out
    assert checks(done)["answers hold under load"] == "failed"
    assert any("bought with other answers" in reason for reason in done.record["reasons"])
    assert canary["idle"] == canary["after"] == [" t0 t1 t2 t3 t4 t5 t6 t7"] * 16
    assert any(answer and "x0" in answer for answer in canary["loaded"])


def test_an_honest_server_is_not_accused(tmp_path: Path) -> None:
    """The same server without the trick has the same answers throughout."""
    done = run_long(tmp_path)

    assert checks(done)["answers hold under load"] == "ok"
    assert "canary.json" in done.record["files"]


@pytest.mark.parametrize(
    ("behaviour", "check"),
    [
        ({"output_tokens": 4}, "output length"),  # half the work
        ({"output_tokens": 16}, "output length"),  # tokens/s bought with idle talk
    ],
)
def test_other_lengths_are_invalid(tmp_path: Path, behaviour: dict[str, Any], check: str) -> None:
    """Answers half or twice as long as asked are another contract's, whatever the rates look like."""
    done = run_long(tmp_path, **behaviour)

    assert done.code == 4, done.err + done.out
    assert checks(done)[check] == "failed"
