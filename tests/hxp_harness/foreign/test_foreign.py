"""Other tools' runs are read rightly, and judged no further than their evidence goes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from hxp_harness.cli import main
from hxp_harness.errors import UsageError
from hxp_harness.foreign.judge import READERS, judge_foreign
from hxp_harness.gates.outcome import CheckOutcome, Outcome
from tests.hxp_harness.foreign.conftest import SHAPES, Write

TOOLS = sorted(SHAPES)
PARSECS = """{
    "metadata": {"request_start_ns": 1, "request_end_ns": 2},
    "metrics": {"request_latency": {"value": 1, "unit": "parsec"}}
}""".replace("\n", "")


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_requests_are_read(tool: str, write: Write) -> None:
    """Sending, first and last token, lengths, failures and warm-up come over, on one time line."""
    run = READERS[tool](write(tool, 20, failing=5))
    traces = [trace for trace in run.traces if trace.replicate >= 0]
    assert len(traces) == 20
    assert len(run.traces) == (22 if tool == "aiperf" else 20)
    fine = [trace for trace in traces if trace.ok]
    assert len(fine) == 16
    for trace in fine:
        assert trace.sent_s is not None
        assert trace.token_hi_s[0] - trace.sent_s == pytest.approx(0.2, abs=1e-6)
        assert trace.token_hi_s[-1] - trace.sent_s == pytest.approx(0.5, abs=1e-6)
        assert (trace.prompt_tokens, trace.output_tokens) == (10, 4)
        assert len(trace.token_hi_s) == (2 if tool == "guidellm" else 4)
        assert trace.sent_s - trace.intended_s == pytest.approx(0.01 if tool == "guidellm" else 0.0, abs=1e-6)
    assert {trace.detail for trace in traces if not trace.ok} == {"Connection reset"}
    gaps_s = [(later.sent_s or 0) - (trace.sent_s or 0) for trace, later in itertools.pairwise(traces)]
    assert gaps_s == pytest.approx([0.05] * 19, abs=1e-6)


def test_what_would_pass_is_no_pass(tool: str, write: Write) -> None:
    """However good the figures are, without certificate and replicates the verdict stays open, and says why."""
    found = judge_foreign(write(tool, 4000), tool, ["e2e p95 <= 2 s"], client_proved=True)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "within the limit of 2000 ms; that is no PASS" in found.reasons[0]
    assert {check.outcome for check in found.checks} == {CheckOutcome.NOT_PROVEN}
    assert any("certificate" in check.sentence for check in found.checks)
    assert any("replicates" in check.sentence for check in found.checks)


def test_slow_answers_fail_only_where_somebody_vouches_for_the_client(tool: str, write: Write) -> None:
    """A client at its limit looks like a slow service: it takes a person's word to tell them apart."""
    file = write(tool, e2e_s=3.0)
    open_ = judge_foreign(file, tool, ["e2e p95 <= 2 s"], client_proved=False)
    assert open_.outcome is Outcome.INCONCLUSIVE
    assert "whether the service or the client was slow cannot be told" in open_.reasons[0]
    closed = judge_foreign(file, tool, ["e2e p95 <= 2 s"], client_proved=True)
    assert closed.outcome is Outcome.FAIL
    assert "breaks the limit" in closed.reasons[0]
    assert any("You say" in check.sentence for check in closed.checks)


def test_failures_fail_by_themselves(tool: str, write: Write) -> None:
    """Errors that the tool counted need nobody's word: it only ever counts too few."""
    found = judge_foreign(write(tool, failing=5), tool, ["error_rate <= 1 %"], client_proved=False)
    assert found.outcome is Outcome.FAIL
    assert {gate.gate: gate.outcome for gate in found.gates} == {"error_rate <= 1 %": Outcome.FAIL}


def test_a_few_failures_are_too_few(tool: str, write: Write) -> None:
    """One error in a hundred of an allowed two promille is beyond the limit, and not surely."""
    found = judge_foreign(write(tool, 400, failing=399), tool, ["error_rate <= 0.2 %"], client_proved=False)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "too short or too uneven to be sure" in found.reasons[0]


def test_a_metric_that_a_file_does_not_hold_is_refused(write: Write) -> None:
    """GuideLLM's file has no gaps; the others have those between chunks."""
    with pytest.raises(UsageError, match="GuideLLM does not hold itl"):
        judge_foreign(write("guidellm"), "guidellm", ["itl p95 <= 1 s"], client_proved=False)
    for tool in ("vllm-bench", "aiperf"):
        found = judge_foreign(write(tool), tool, ["itl p95 <= 10 ms"], client_proved=True)
        assert found.outcome is Outcome.FAIL
        assert found.gates[0].estimate == pytest.approx(0.1)


def test_parts_that_differ_fail_nothing(write: Write) -> None:
    """Where two parts of a run disagree by far, the bound is wide, and nothing is sure of what another run would be."""
    file = write("vllm-bench", 200, e2e_s=0.5)
    found = json.loads(file.read_text())
    found["itls"] = [[0.1, 0.1, 0.1] if index < 100 else [0.001, 0.001, 0.0035] for index in range(200)]
    file.write_text(json.dumps(found))
    verdict = judge_foreign(file, "vllm-bench", ["itl p95 <= 3 ms", "e2e p95 <= 9 s"], client_proved=True)
    assert verdict.gates[0].low is not None
    assert verdict.gates[0].low < 0.003 < (verdict.gates[0].estimate or 0.0)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "too short or too uneven to be sure" in verdict.reasons[0]


def test_lengths_that_a_tool_does_not_know_are_no_obstacle(write: Write) -> None:
    """A tool writes 0 prompt tokens where the server counts none; the rest is judged all the same."""
    file = write("vllm-bench")
    file.write_text(file.read_text().replace('"input_lens": [10', '"input_lens": [0').replace("10, ", "0, "))
    found = judge_foreign(file, "vllm-bench", ["e2e p95 <= 2 s"], client_proved=False)
    assert found.gates[0].estimate == pytest.approx(0.5)


def test_parts_are_as_many_as_a_percentile_allows(write: Write) -> None:
    """Eight where there is enough; too few requests for two are refused with what it takes."""
    many = judge_foreign(write("vllm-bench", 800), "vllm-bench", ["e2e p95 <= 2 s"], client_proved=False)
    few = judge_foreign(write("vllm-bench", 200), "vllm-bench", ["e2e p95 <= 2 s"], client_proved=False)
    assert (many.replicates, few.replicates) == (8, 2)
    with pytest.raises(UsageError, match="150 requests do not suffice") as refusal:
        judge_foreign(write("vllm-bench", 150), "vllm-bench", ["e2e p95 <= 2 s"], client_proved=False)
    assert "90" in refusal.value.hint


@pytest.mark.parametrize(
    ("tool", "text", "said"),
    [
        ("vllm-bench", '{"duration": 1.0, "completed": 5}', "--save-detailed"),
        ("vllm-bench", '{"start_times": [1.0], "ttfts": []}', "--save-detailed"),
        ("vllm-bench", "[1]", "is not what the tool writes"),
        ("guidellm", '{"benchmarks": []}', "holds 0 benchmarks"),
        ("guidellm", '{"benchmarks": [{"requests": {}}, {"requests": {}}]}', "jq"),
        ("guidellm", '{"benchmarks": [{"requests": {"successful": []}}]}', "nothing of single requests"),
        ("guidellm", "{}", "is not what the tool writes"),
        ("aiperf", "", "nothing of single requests"),
        ("aiperf", '{"metadata": {"request_start_ns": 1, "request_end_ns": 2}}\n{}\n', "line 2"),
        ("aiperf", PARSECS, "'parsec', which is no time"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, tool: str, text: str, said: str) -> None:
    """The file is named, and the command that makes the right one."""
    file = tmp_path / "result.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"result\.json") as refusal:
        READERS[tool](file)
    assert said in str(refusal.value)
    with pytest.raises(UsageError, match="cannot read"):
        READERS[tool](tmp_path / "none.json")


def test_half_told_requests_are_failures_or_left_out(tmp_path: Path) -> None:
    """A cancelled or silent request is no success, and one that was never sent is nothing at all."""
    aiperf = tmp_path / "aiperf.jsonl"
    aiperf.write_text(
        '{"metadata": {"request_start_ns": 1, "request_end_ns": 2, "was_cancelled": true}}\n'
        '{"metadata": {"request_start_ns": 3, "request_end_ns": 4}}\n'
        '{"metadata": {"request_start_ns": 5, "request_end_ns": 2000000005},'
        ' "metrics": {"request_latency": {"value": 2, "unit": "s"}}}\n'
    )
    assert [trace.detail for trace in READERS["aiperf"](aiperf).traces] == ["cancelled", "no token came", ""]
    guidellm = tmp_path / "guidellm.json"
    guidellm.write_text(
        '{"benchmarks": [{"requests": {"successful": ['
        '{"info": {"timings": {"request_start": 1.0, "request_end": 2.0}}},'
        '{"info": {"timings": {"request_start": 1.5, "resolve_end": 2.0, "first_token_iteration": 1.7}}},'
        '{"info": {"timings": {"targeted_start": 1.0}}}], "errored": ['
        '{"info": {"timings": {"targeted_start": 1.0}}}]}}]}'
    )
    run = READERS["guidellm"](guidellm)
    assert [trace.detail for trace in run.traces] == ["no token came", ""]
    assert "2 requests have no intended time" in run.lacks[-1]


def test_the_command_judges_a_file(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 with what is lacking, 1 where it fails, 2 for words that do not go together."""
    file = str(write("vllm-bench", e2e_s=3.0))
    gate = ("--gate", "e2e p95 <= 2 s")
    assert main(["judge", file, "--from", "vllm-bench", *gate]) == 3
    assert "No certificate" in capsys.readouterr().out
    gates = tmp_path / "gates.txt"
    gates.write_text("e2e p95 <= 2 s\n")
    assert main(["judge", file, "--from", "vllm-bench", "--gates", str(gates), "--client-proved"]) == 1
    for wrong in (["--from", "vllm-bench"], ["--from", "vllm-bench", "--verify", *gate], ["--client-proved", *gate]):
        assert main(["judge", file, *wrong]) == 2
