"""Hxp compare, and hxp perf with a baseline, through the program itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from tests.hxp_harness.run.conftest import Done, run_program, write_profile

# Far enough apart, in a figure that a busy machine hardly moves, to be told in three pairs
FAST, SLOW, GATE = Behaviour(ttft_s=0.02, itl_s=0.002), Behaviour(ttft_s=0.3, itl_s=0.02), "e2e p50 <= 20 s"

TWO = ("--model", "mixtral", "--target", "http://127.0.0.1:9/v1", "--target", "http://127.0.0.1:9/v1")


def test_two_servers_taking_turns_are_told_apart(tmp_path: Path) -> None:
    """A server of ten times the latency is a regression with code 1, after A was held against itself."""
    out = tmp_path / "out"
    with golden(tmp_path / "a", FAST) as a, golden(tmp_path / "b", SLOW) as b:
        file = write_profile(tmp_path, GATE, rate=100)
        words = ("--target", a.base_url, "--target", b.base_url, "--api-model", "golden", "--pairs", "3")
        done = run_program(
            tmp_path, "compare", "--profile", str(file), *words, "--requests", "100", "--out", str(out), most_s=800
        )
    found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))

    assert done.code == 1, done.err + done.out
    assert found["change"] == "REGRESSION"
    effect = next(one for one in found["effects"] if one["name"] == "e2e p50")
    assert effect["outcome"] == "REGRESSION"
    assert effect["units"] == 3
    assert effect["low"] > 1.0
    assert len(found["floor"]) > 0
    assert {"report.html", "report.md", "junit.xml"} <= {path.name for path in out.iterdir()}
    assert "A against itself" in run_program(tmp_path, "explain", str(out)).out


def test_two_stored_runs_are_compared(passed: Done, tmp_path: Path) -> None:
    """A run against itself is no regression; the answer is printed, and kept where --out says."""
    run = str(passed.folder)
    done = run_program(tmp_path, "compare", run, run, "--out", str(tmp_path / "out"))

    # Where a busy machine read late, arrivals are known only within bounds, and no difference is not proven either
    assert (done.code, done.out.split("  ")[0]) in {(0, "NO DIFFERENCE"), (3, "INCONCLUSIVE")}, done.err
    assert "same arrivals and prompts" in done.out
    assert (tmp_path / "out" / "report.html").exists()
    again = run_program(tmp_path, "compare", run, run, "--out", str(tmp_path / "out"))
    assert again.code == 2
    assert "holds a run already" in again.err


def test_a_baseline_turns_a_pass_into_a_failure(passed: Done, tmp_path: Path) -> None:
    """A server that still meets its gates, but is far slower than the baseline's, ends with code 1."""
    baseline = tmp_path / "baseline"
    shutil.copytree(passed.folder, baseline)
    with golden(tmp_path / "golden", Behaviour(ttft_s=0.2, itl_s=0.01)) as target:
        at = ("--target", target.base_url, "--api-model", target.model, "--out", str(tmp_path / "run"))
        done = run_program(
            tmp_path, "perf", "--profile", str(write_profile(tmp_path)), *at, "--baseline", str(baseline)
        )

    assert done.record["verdict"] == "PASS", done.err
    assert done.code == 1, done.out
    assert f"against {baseline}: REGRESSION" in done.out.replace("\n", " ")
    assert json.loads((tmp_path / "run" / "baseline.json").read_text(encoding="utf-8"))["verdict"] == "FAIL"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give two run folders"),
        (("one",), "give two run folders"),
        (("--target", "http://127.0.0.1:9/v1", "--target", "http://127.0.0.1:9/v1"), "give two run folders"),
        (("a", "b"), "no run.json in a"),
        (("a", "b", "--margin", "0 %"), "not between"),
        (("--model", "mixtral", "--target", "http://127.0.0.1:9/v1", "--target", "x", "--pairs", "2"), "takes 3"),
        ((*TWO, "--tag-key", "gold"), "--tag-key gold: wants TAG=VARIABLE"),
        ((*TWO, "--tag-key", "gold=HXP_NO_SUCH_KEY"), "the environment has no HXP_NO_SUCH_KEY"),
        (("a", "b", "--tag-key", "gold=HXP_NO_SUCH_KEY"), "says something of --target"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """A wrong call ends with code 2 and says what was wanted."""
    done = run_program(tmp_path, "compare", *words)

    assert done.code == 2
    assert said in done.err


def test_a_baseline_that_is_no_run_is_refused_at_once(tmp_path: Path) -> None:
    """Nothing is started when the baseline cannot be compared with."""
    done = run_program(tmp_path, "perf", "--model", "mixtral", "--baseline", str(tmp_path / "none"))

    assert done.code == 2
    assert "no run.json" in done.err
    assert not (tmp_path / "reports").exists()
