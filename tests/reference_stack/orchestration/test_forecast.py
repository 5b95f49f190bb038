"""The commands that predict, and the prediction in the row of a model that runs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hxp_harness.metrics.table import TraceTable
from hxp_harness.trace import ErrorKind, Trace
from reference_stack.__main__ import main
from reference_stack.orchestration.deployment import models
from reference_stack.orchestration.deployment.offer import Offer
from reference_stack.orchestration.deployment.want import Want
from reference_stack.orchestration.entry import argv
from reference_stack.orchestration.forecast import Question
from reference_stack.schemas.configuration.workload import Contract
from reference_stack.services.ai_models import feasibility

PROFILE = """\
schema: 1
name: small
title: small
service: {service}
contract: {{prompt_tokens: {prompt}, output_tokens: 8, rate: 20 rps}}
gates: [e2e p95 <= 1 s]
replicates: {{count: 2, requests: 10, warm_up: 200 ms}}
"""
CONTRACT = Contract(prompt_tokens=16, output_tokens=8, rate_rps=20.0, limit_s=1.0)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions from fewer requests: what is promised here does not hang on their number."""
    monkeypatch.setattr(feasibility, "REQUESTS", 200)


def _profile(folder: Path, service: str = "hermes", prompt: int = 16) -> str:
    file = folder / "small.yaml"
    file.write_text(PROFILE.format(service=service, prompt=prompt), encoding="utf-8")
    return str(file)


def test_a_profile_is_planned_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page says that it is a prediction, and has the profile's row and the four models side by side."""
    assert main(["plan", "--profile", _profile(tmp_path)]) == 0
    page = capsys.readouterr().out

    assert "constants calibrated with vLLM 0.26" in page
    assert "FEASIBLE" in page
    assert "p95 0.0" in page
    assert "their limits are 117 GB, the device has 150.8 GB: all fit" in page


def test_what_does_not_fit_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An infeasible row ends in what would fit; four models do not fit on a device smaller than their limits."""
    words = ["--profile", _profile(tmp_path, "mixtral"), "--device", "l40s", "--precision", "fp8"]
    assert main(["plan", *words]) == 0
    page = capsys.readouterr().out

    assert "bound by memory limit; would fit: int4 weights" in page
    assert "they do not all fit" in page


def test_a_plan_can_be_read_by_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json has every figure of the table, in base units, and says what it can stand for."""
    assert main(["plan", "--profile", _profile(tmp_path), "--json", "--precision", "int4"]) == 0
    tree = json.loads(capsys.readouterr().out)
    row = tree["profiles"]["small"]

    assert tree["evidence"].startswith("simulated, ")
    assert (row["fit"], row["model"], row["precision"]) == ("FEASIBLE", "hermes", "int4")
    assert row["contract"]["limit_s"] == 1.0
    assert row["nearest"]["rate_rps"] > 20.0
    assert tree["together"]["models"]["openchat"]["widest_precision"] == "int4"
    assert tree["together"]["fits"]


def test_all_profiles_of_models_are_meant_unless_one_is_named() -> None:
    """The four models in the order of the catalogue, with the neighbours of mixtral, and no gateway."""
    names = [one.name for one in Question().workloads()]

    assert names == ["mixtral", "mixtral_256", "mixtral_512", "hermes", "openchat", "phi3"]
    assert [one.name for one in Question(name="mixtral_512").workloads()] == ["mixtral_512"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--device", "h2000"), "did you mean 'h200'?"),
        (("--model", "mixtrall"), "did you mean 'mixtral'?"),
        (("--model", "mixtral", "--precision", "fp7"), "did you mean 'fp8'?"),
        (("--model", "api_gateway"), "known: hermes, mixtral, openchat, phi3"),
        (("--profile", "nowhere.yaml"), "profiles here: api_gateway"),
    ],
)
def test_what_is_not_known_is_named_with_the_nearest(
    words: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device, profile or precision that does not exist is a usage error."""
    assert main(["plan", *words]) == 2
    assert hint in capsys.readouterr().err


def test_simulated_traces_are_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`simulate` writes the whole schedule as the harness's own traces, warm-up first, the same for the same seed."""
    out = tmp_path / "traces.jsonl"
    words = ["simulate", "--profile", _profile(tmp_path), "--out", str(out)]
    assert main([*words, "--seed", "5"]) == 0
    text = out.read_text(encoding="utf-8")
    traces = [Trace(**{**json.loads(line), "error": ErrorKind.NONE}) for line in text.splitlines()]

    assert {field for line in text.splitlines() for field in json.loads(line)} <= {
        field.name for field in dataclasses.fields(Trace)
    }
    assert [trace.replicate for trace in traces] == [-1] * 4 + [0] * 10 + [1] * 10
    assert all(trace.ok and len(trace.token_hi_s) == trace.output_tokens == 8 for trace in traces)
    assert len(TraceTable.from_traces(traces)) == 24
    assert "24 requests in" in capsys.readouterr().out

    assert main([*words, "--seed", "5"]) == 0
    assert out.read_text(encoding="utf-8") == text
    assert main(words) == 0
    assert out.read_text(encoding="utf-8") != text


def test_what_cannot_be_simulated_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that would not start, a request that is too long, a file that cannot be written."""
    out = ["--out", str(tmp_path / "traces.jsonl")]
    assert main(["simulate", "--model", "mixtral", "--device", "l40s", *out]) == 2
    assert "memory limit" in capsys.readouterr().err
    assert main(["simulate", "--profile", _profile(tmp_path, prompt=5000), *out]) == 2
    assert "context length" in capsys.readouterr().err
    assert main(["simulate", "--profile", _profile(tmp_path), "--out", str(tmp_path)]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_without_profiles_the_next_thing_to_type_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no profile is found, the command says how to give one."""
    monkeypatch.setattr("reference_stack.orchestration.forecast.known_workloads", dict)
    assert main(["plan"]) == 2
    assert "hxp-stack plan --profile FILE" in capsys.readouterr().err


def test_help_imports_nothing_that_is_slow() -> None:
    """`hxp-stack --help` reads neither YAML nor pydantic."""
    program = (
        "import sys, reference_stack.__main__ as m\n"
        "m.parser().format_help()\n"
        "print(sorted({'yaml', 'pydantic', 'numpy', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_contract_travels_from_the_harness_to_the_stack(tmp_path: Path) -> None:
    """What is wanted becomes --contract on the command line, and a typing error there is a usage error."""
    words = argv({"folder": str(tmp_path), "contract": {"prompt_tokens": 16, "output_tokens": 8, "rate_rps": 2.5}})

    assert json.loads(words[words.index("--contract") + 1])["rate_rps"] == 2.5
    assert "--contract" not in argv({"folder": str(tmp_path), "contract": None})
    assert main(["up", "--folder", str(tmp_path), "--contract", '{"rate": 1}', "--foreground"]) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"contract": None},
        {"engine": "vllm", "weights": "tiny"},
        {"services": ("api_gateway",)},
        {"options": {"speed": "2"}},
    ],
)
def test_a_model_predicts_itself_only_where_its_row_holds(tmp_path: Path, change: dict[str, object]) -> None:
    """No prediction without a contract, for toys, for models behind a gateway under test, or under other settings."""
    want = Want(tmp_path, tmp_path, services=("hermes",), contract=CONTRACT)

    said = models._feasibility(want, "hermes")
    assert said["verdict"] == "FEASIBLE"
    assert said["sentence"].startswith("FEASIBLE: hermes (fp8) on NVIDIA H200 SXM, 16/8 tokens at 20 rps")
    assert models._feasibility(dataclasses.replace(want, options={"device": "l40s"}), "hermes")
    assert models._feasibility(dataclasses.replace(want, **change), "hermes") == {}  # type: ignore[arg-type]  # any field


def test_a_row_has_the_prediction_only_where_there_is_one() -> None:
    """The ready line leaves out what does not apply."""
    said = {"verdict": "FEASIBLE", "sentence": "FEASIBLE: it fits"}

    assert Offer("", "", feasibility=said).row(1)["feasibility"] == said
    assert "feasibility" not in Offer("", "").row(1)
