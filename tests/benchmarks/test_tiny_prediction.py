"""The page of predicted against measured times: from runs that are kept here, as from those that it measures itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks import tiny_prediction

KEPT = Path(__file__).parents[2] / "benchmarks" / "calibration" / "h200" / "phi3_4rps"


def a_run(folder: Path, *, held_back: bool, slowness: float) -> None:
    """Make `folder` a run of a few requests on a machine that was so slow."""
    folder.mkdir()
    pq.write_table(pq.read_table(KEPT / "traces.parquet").slice(0, 40), folder / "traces.parquet")
    engine = json.loads((KEPT / "engine.json").read_text(encoding="utf-8"))
    (folder / "engine.json").write_text(json.dumps({**engine, "held_back": held_back}), encoding="utf-8")
    readings = {"at_s": [-1.0, 1.0], "taken_s": [slowness, slowness]}
    (folder / "yardstick.json").write_text(json.dumps(readings), encoding="utf-8")


def test_the_page_says_what_was_predicted_and_how_fast_the_machine_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every figure of a test run is a row; the counts are told with and without the yardstick, and kept in the docs."""
    page = tmp_path / "page.md"
    page.write_text(
        "before <!-- tiny_prediction: begin -->\nold\n<!-- tiny_prediction: end --> after", encoding="utf-8"
    )
    monkeypatch.setattr(tiny_prediction, "PAGE", page)
    a_run(tmp_path / "phi3-closed-1", held_back=False, slowness=3e-4)
    a_run(tmp_path / "phi3-30", held_back=True, slowness=1e-4)

    assert tiny_prediction.main([str(tmp_path), "--docs", "--evaluations", "1"]) == 0
    said = capsys.readouterr().out.strip()
    assert "1 runs fitted to, 1 to test on" in said
    assert "from 0.50 to 1.50 of what it usually took" in said
    assert said.count("| phi3-30 | ") == 6
    assert "of 6 figures" in said
    assert "no look at the machine's speed: " in said
    assert page.read_text(encoding="utf-8").startswith("before ")
    assert said in page.read_text(encoding="utf-8")
    assert "old" not in page.read_text(encoding="utf-8")


def test_runs_without_a_yardstick_are_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody measured how fast the machine was, the page says that, and has no second count."""
    for name, held_back in (("phi3-closed-1", False), ("phi3-30", True)):
        a_run(tmp_path / name, held_back=held_back, slowness=1e-4)
        (tmp_path / name / "yardstick.json").unlink()

    assert tiny_prediction.main([str(tmp_path), "--evaluations", "1"]) == 0
    said = capsys.readouterr().out
    assert "speed was not measured" in said
    assert said.count("of 6 figures") == 1


def test_a_folder_without_tests_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without runs of both kinds nothing is fitted, and the way to make them is named."""
    a_run(tmp_path / "phi3-closed-1", held_back=False, slowness=1e-4)

    assert tiny_prediction.main([str(tmp_path)]) == 2
    assert "--measure" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "phi3-closed-1")
    assert tiny_prediction.main([str(tmp_path)]) == 2
