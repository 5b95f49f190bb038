"""Two records are compared where they may be, and told in words that say how sure it is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from hxp_harness.comparison.attribution import Counters, counters_of, hints, rows
from hxp_harness.comparison.baseline import against, refuse_unlike
from hxp_harness.comparison.effect import Change
from hxp_harness.comparison.record import Comparison, headline, read_comparison, story, write_comparison
from hxp_harness.comparison.stored import compare_records
from hxp_harness.comparison.views import tell_comparison, write_comparison_views
from hxp_harness.errors import ExitCode, UsageError
from hxp_harness.gates.outcome import Outcome
from hxp_harness.profile import find_profile
from hxp_harness.report.record import Figures, Record, read_record, write_record
from hxp_harness.target import Evidence
from tests.hxp_harness.report.conftest import make_run

__all__ = ["make_run"]
MakeRun = Callable[..., Path]
NAMES = ("old", "new")


@pytest.fixture
def records(make_run: MakeRun) -> Callable[..., Record]:
    """Make a record of a server with log-normal latency of this median."""

    def make(median_s: float, **changes: Any) -> Record:
        return read_record(make_run(median_s=median_s)).model_copy(update=changes)

    return make


def test_a_slower_server_is_a_regression(records: Callable[..., Record]) -> None:
    """A fifth more latency is told as worse with its bounds, by the gated figures, and turns CI red."""
    found = compare_records(records(1.0), records(1.2), names=NAMES, margin=0.05)

    assert found.change is Change.REGRESSION
    assert found.outcome is Outcome.FAIL
    assert "e2e p95 went from" in headline(found)
    assert "+20" in headline(found)
    effect = next(one for one in found.effects if one.name == "e2e p95")
    assert effect.low < 0.2 < effect.high
    assert effect.paired  # both had the same seed


def test_the_same_server_shows_no_difference(records: Callable[..., Record]) -> None:
    """A run against itself is no difference beyond the margin, and a faster one an improvement."""
    same = compare_records(records(1.0), records(1.0), names=NAMES, margin=0.05)
    faster = compare_records(records(1.2), records(1.0), names=NAMES, margin=0.05)

    assert (same.change, same.outcome) == (Change.SAME, Outcome.PASS)
    assert "No difference beyond 5%" in headline(same)
    assert (faster.change, faster.outcome) == (Change.IMPROVEMENT, Outcome.PASS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profile": {"contract": {"rate": 60.0, "timeout_s": 30.0, "stream": True}}}, "rate: 5.0 against 60.0"),
        ({"evidence": Evidence.MEASURED}, "evidence: simulated against measured"),
        ({"profile": {}}, "no contract"),
    ],
)
def test_other_work_is_not_compared(records: Callable[..., Record], changes: dict[str, Any], said: str) -> None:
    """Another rate, another kind of evidence or no contract at all: refused, by name."""
    with pytest.raises(UsageError, match=said):
        compare_records(records(1.0), records(1.0, **changes), names=NAMES, margin=0.05)


def test_an_invalid_run_proves_nothing(records: Callable[..., Record]) -> None:
    """Where either run is INVALID the comparison is, whatever the figures say."""
    found = compare_records(records(1.0), records(2.0, verdict="INVALID"), names=NAMES, margin=0.05)

    assert found.outcome is Outcome.INVALID
    assert found.word == "INVALID"
    assert headline(found).startswith("new is INVALID")


def test_what_else_differs_is_said(records: Callable[..., Record]) -> None:
    """Another machine, and that one run came after the other, is told; other seeds are compared as groups."""
    other = records(1.0, environment={"processor": "Epyc"}, profile=records(1.0).profile | {"seed": 9})
    found = compare_records(records(1.0), other, names=NAMES, margin=0.05)
    told = " ".join(story(found))

    assert "not made on the same machine (processor: Xeon against Epyc" in told
    assert "one after the other" in told
    assert "two groups" in told
    assert not found.effects[0].paired


def test_counters_hint_at_the_cause() -> None:
    """Preemptions, a queue and another share of cached prompts are pointed out; alike counters are not."""
    a, b = Counters(100, 0, 0.0, 1, 0.5), Counters(100, 50, 0.4, 30, 0.99)

    assert [word for word in ("KV memory", "did not keep up", "same work") if word in " ".join(hints(a, b))] == [
        "KV memory",
        "did not keep up",
        "same work",
    ]
    assert hints(a, a) == []
    assert len(rows(a, b)) == 5
    assert rows(Counters(None, None, None, None, None), replace(a, kv_usage=None))[0] == (
        "requests served",
        "not told",
        "100",
    )
    assert rows(*[Counters(None, None, None, None, None)] * 2) == []


def test_what_servers_said_meanwhile_hints_at_the_cause() -> None:
    """A queue, a fuller batch, a slower clock and other energy are pointed out; alike servers are not."""
    quiet = {"waiting_mean": 0.0, "running_mean": 10.0, "gpu_clock_mean": 1.98e9, "energy_per_token": 0.2}
    bare = Counters(None, None, None, None, None)
    a = replace(bare, during=quiet)
    queued = replace(bare, during=quiet | {"waiting_mean": 6.0, "kv_usage_peak": 0.99})
    slow = replace(bare, during=quiet | {"running_mean": 20.0, "gpu_clock_mean": 1.2e9, "energy_per_token": 0.3})

    assert "B had 6 requests waiting on average, A 0, and its KV cache was full to 99%" in " ".join(hints(a, queued))
    said = " ".join(hints(a, slow))
    assert "B worked on 20 requests at a time, A on 10" in said
    assert "B's GPU ran at 1200 MHz, A's at 1980" in said
    assert "0.2 J of A and 0.3 J of B" in said
    assert hints(a, a) == hints(bare, queued) == []
    assert ("requests in the server's queue, over time", "0", "6") in rows(a, queued)


def test_what_one_run_lacks_is_not_averaged(records: Callable[..., Record]) -> None:
    """A figure counts where every run of a target has it."""
    told = {"waiting_mean": Figures(mean=2.0, unit="requests", n=5), "running_mean": Figures(unit="requests", n=5)}
    one = records(1.0).model_copy(update={"telemetry": told})

    assert counters_of([one, one]).during == {"waiting_mean": 2.0}
    assert counters_of([one, records(1.0)]).during == {}


def test_counters_are_differences_over_all_runs(records: Callable[..., Record]) -> None:
    """What was counted between before and after is added up over runs; a gauge counts by its largest."""
    page = {"requests": 10.0, "preemptions": 1.0, "prefix_hits": 0.0, "prefix_queries": 100.0, "waiting": 0.0}
    after = {"requests": 30.0, "preemptions": 4.0, "prefix_hits": 20.0, "prefix_queries": 200.0, "waiting": 7.0}
    one = records(1.0, server={"before": page, "after": after})

    assert counters_of([one, one]) == Counters(40.0, 6.0, 0.2, 7.0, None)
    assert counters_of([records(1.0)]).preemptions is None


def test_pages_and_record_come_from_the_folder(records: Callable[..., Record], tmp_path: Path) -> None:
    """comparison.json holds everything; its page, its summary and its test case say the same."""
    found = compare_records(records(1.0), records(1.3), names=NAMES, margin=0.05)
    floor = replace(found, floor=compare_records(records(1.0), records(1.0), names=NAMES, margin=0.05).effects)
    write_comparison(tmp_path, floor)

    assert read_comparison(tmp_path) == floor
    assert json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))["change"] == "REGRESSION"
    page, summary, junit = (path.read_text(encoding="utf-8") for path in write_comparison_views(tmp_path))
    assert page.count("<svg") == 1
    assert "noise floor" in summary
    assert ET.fromstring(junit).find(".//failure") is not None
    assert "A against itself, measured first" in tell_comparison(tmp_path)


def test_a_comparison_of_nothing_is_open(tmp_path: Path) -> None:
    """Without a figure that both have nothing is concluded, and there is no picture."""
    write_comparison(tmp_path, Comparison(1, "t", "a", "b", Evidence.TINY, 0.05))
    page = write_comparison_views(tmp_path)[0].read_text(encoding="utf-8")

    assert "Nothing that both have can be compared" in page
    assert "<svg" not in page
    assert read_comparison(tmp_path).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("text", ["", "{}"])
def test_a_damaged_comparison_is_told(tmp_path: Path, text: str) -> None:
    """A folder without record, or with a broken one, is a usage error."""
    with pytest.raises(UsageError, match="cannot read"):
        read_comparison(tmp_path)
    (tmp_path / "comparison.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is damaged"):
        read_comparison(tmp_path)


def test_a_baseline_of_other_work_is_refused_before_the_run(records: Callable[..., Record], tmp_path: Path) -> None:
    """A run of another contract is no baseline; one of the same is, whatever its timeout was."""
    profile = find_profile("mixtral")
    contract = profile.model_dump(mode="json", by_alias=True)["contract"]
    write_record(tmp_path, records(1.0, profile={"contract": contract | {"timeout": "1.0 s"}}))
    refuse_unlike(tmp_path, profile)
    write_record(tmp_path, records(1.0, profile={"contract": contract | {"prompt_tokens": 1}}))

    with pytest.raises(UsageError, match="another workload"):
        refuse_unlike(tmp_path, profile)


def test_a_run_is_held_against_its_baseline(
    records: Callable[..., Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slower run than the baseline is code 1, an equal one 0, and the answer stays beside the record."""
    for name, median_s in (("old", 1.0), ("slow", 1.4)):
        (tmp_path / name).mkdir()
        write_record(tmp_path / name, records(median_s))

    assert against(tmp_path / "old", tmp_path / "slow") is ExitCode.FAIL
    assert "REGRESSION" in capsys.readouterr().out
    assert against(tmp_path / "old", tmp_path / "old") is ExitCode.PASS
    assert (tmp_path / "slow" / "baseline.json").exists()
