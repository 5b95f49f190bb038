"""`hxp-stack calibrate`: the runs measured on an H200 as they are kept here, and folders that are none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from reference_stack.__main__ import main
from reference_stack.errors import SettingsError
from reference_stack.orchestration.measured_run import MeasuredEngine, read_run, read_runs
from reference_stack.services.ai_models.calibrate import relative_errors
from reference_stack.services.ai_models.physics import find_device

KEPT = Path(__file__).parents[3] / "benchmarks" / "calibration" / "h200"


def test_the_engine_is_known_from_its_command_line() -> None:
    """Limits, KV and graphs are those of the flags; without a flag, vLLM's own default."""
    phi3 = read_run(KEPT / "phi3_4rps")
    assert (phi3.spec.name, phi3.limits.max_num_seqs, phi3.limits.kv_tokens) == ("phi3", 32, 5088)
    assert phi3.spec.graph_tokens == 64

    flags = "vllm serve x --max-num-seqs 8 --max-cudagraph-capture-size 100 --kv-cache-memory-bytes 131072000"
    spec = MeasuredEngine("hermes", "dummy", flags).spec
    assert (spec.max_num_seqs, spec.graph_tokens) == (8, 100)
    assert MeasuredEngine("hermes", "dummy", flags).limits.kv_tokens == 1000


def test_a_tiny_engine_is_a_small_model_with_vllms_defaults() -> None:
    """Tiny weights mean two layers in BF16, and the limits that vLLM takes on a CPU."""
    spec = MeasuredEngine("mixtral", "tiny", "vllm serve x --kv-cache-memory-bytes 67108864").spec

    assert (spec.architecture.layers, spec.precision, spec.max_num_seqs) == (2, "bf16", 128)


def test_the_kept_runs_are_predicted_by_the_device_as_it_stands() -> None:
    """The H200's constants predict the engine alone within 20 % of what was measured on one."""
    errors = relative_errors(read_run(KEPT / "phi3_4rps"), find_device("h200"))

    assert max(map(abs, errors.values())) < 0.2


def test_all_kept_runs_are_found() -> None:
    """A folder of runs stands for the runs in it."""
    fitted_to, held_back = read_runs([KEPT])
    assert not held_back
    assert {run.name for run in fitted_to} >= {"mixtral_50rps", "hermes_30rps", "openchat_40rps", "phi3_60rps"}


def test_the_command_fits_shows_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what moved, how well both kinds of runs are predicted, and writes a device that plan takes."""
    out = tmp_path / "mine.yaml"
    run = str(first_requests(tmp_path / "phi3_4rps", 100))

    assert main(["calibrate", run, "--check", run, "--device", "h200", "--evaluations", "4", "--out", str(out)]) == 0
    page = capsys.readouterr().out
    assert "step_overhead_s" in page
    assert "phi3_4rps (phi3, 3.8" in page
    assert "not fitted to" in page
    assert "of 6 figures" in page
    assert "vLLM 0.26.0 on NVIDIA H200" in out.read_text(encoding="utf-8")
    assert main(["plan", "--model", "phi3", "--device", str(out), "--json"]) == 0


def test_a_run_says_itself_that_it_is_held_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders that the command measured are split as it would have: nobody has to know which run was for what."""
    for name, held_back in (("one", False), ("two", True)):
        folder = first_requests(tmp_path / name, 60)
        engine = json.loads((folder / "engine.json").read_text())
        (folder / "engine.json").write_text(json.dumps({**engine, "held_back": held_back}))

    assert main(["calibrate", str(tmp_path), "--device", "h200", "--evaluations", "1"]) == 0
    page = capsys.readouterr().out
    assert "fitted to 1 runs" in page
    assert "two" in page.split("not fitted to")[1]


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody loses three quarters of an hour to a folder that is not there."""
    assert main(["calibrate", "--device", "h200", "--out", "absent/mine.yaml"]) == 2
    assert "absent is no folder to write to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("--device h200 --weights tiny", "tiny weights run on the CPU", "--device cpu"),
        ("--device h200", "this machine has NVIDIA H100 80GB HBM3, not NVIDIA H200 SXM", "--device h100"),
        ("--device cpu", "this machine has NVIDIA H100", "--device h100"),
        ("--device h200 --model phi4", "no model 'phi4'", "did you mean 'phi3'?"),
    ],
)
def test_what_would_be_measured_on_another_device_is_refused(
    words: str,
    message: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A GPU or CPU other than the one named is told before anything is started, with what to type."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA H100 80GB HBM3, 580.10, 81559, 5\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert main(["calibrate", *words.split(), "--folder", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert hint in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("engine", "traces", "message"),
    [
        (None, b"", "cannot read engine.json"),
        ("{", b"", "engine.json is damaged"),
        (json.dumps({"model": "phi3"}), b"", "engine.json is damaged"),
        (json.dumps({"model": "phi3", "weights": "dummy", "flags": ""}), b"no parquet", "traces.parquet"),
    ],
)
def test_what_is_no_measured_run_is_refused(tmp_path: Path, engine: str | None, traces: bytes, message: str) -> None:
    """A folder without the engine's command line or with damaged files is named."""
    if engine is not None:
        (tmp_path / "engine.json").write_text(engine, encoding="utf-8")
    (tmp_path / "traces.parquet").write_bytes(traces)

    with pytest.raises(SettingsError, match=message):
        read_run(tmp_path)


def test_a_damaged_yardstick_is_named_with_the_way_out(tmp_path: Path) -> None:
    """The file is told, and that the run can be read without it."""
    folder = first_requests(tmp_path / "one", 60)
    (folder / "yardstick.json").write_text("{}")

    with pytest.raises(SettingsError, match=r"yardstick\.json is damaged") as caught:
        read_run(folder)
    assert "remove it" in caught.value.hint


def test_too_few_requests_are_refused(tmp_path: Path) -> None:
    """With a handful of requests there is no quantile."""
    with pytest.raises(SettingsError, match="at least 10 are needed"):
        read_run(first_requests(tmp_path / "short", 12))


def first_requests(folder: Path, count: int) -> Path:
    """Make `folder` a run of the first `count` requests of one that is kept."""
    import pyarrow.parquet as pq

    folder.mkdir()
    shutil.copy(KEPT / "phi3_4rps" / "engine.json", folder)
    pq.write_table(pq.read_table(KEPT / "phi3_4rps" / "traces.parquet").slice(0, count), folder / "traces.parquet")
    return folder
