"""A schedule is complete, reproducible and written before the first request."""

from pathlib import Path

import msgspec
import pytest
from scipy import stats

from hxp_harness.arrivals import Constant
from hxp_harness.errors import UsageError
from hxp_harness.gates.facts import Asked
from hxp_harness.load.schedule import WARM_UP, draw, peak_rps, read_schedule, steady, write_schedule
from hxp_harness.profile import Contract, Replicates

CONTRACT = Contract.model_validate({"prompt_tokens": 128, "output_tokens": 64, "rate_rps": 50.0})
REPLICATES = Replicates.model_validate({"count": 3, "requests": 40, "warm_up_s": 0.5})


def test_warm_up_hands_over_to_windows_of_equal_size() -> None:
    """Warm-up comes first, then each window in turn, all on one rising time line."""
    schedule = draw(CONTRACT, REPLICATES, seed=1)
    assert [due.replicate for due in schedule] == [WARM_UP] * 25 + [0] * 40 + [1] * 40 + [2] * 40
    assert [due.index for due in schedule] == list(range(145))
    times = [due.intended_s for due in schedule]
    assert times == sorted(times)
    assert {(due.prompt_tokens, due.output_tokens) for due in schedule} == {(128, 64)}


def test_every_prompt_is_fresh() -> None:
    """No two requests of a run have the same prompt seed."""
    schedule = draw(CONTRACT, REPLICATES, seed=1)
    assert len({due.seed for due in schedule}) == len(schedule)


def test_prompts_do_not_depend_on_arrivals() -> None:
    """Another arrival process leaves the prompts as they were."""
    constant = CONTRACT.model_copy(update={"arrival": Constant()})
    first, second = draw(CONTRACT, REPLICATES, 5), draw(constant, REPLICATES, 5)
    assert [due.seed for due in first] == [due.seed for due in second]
    assert [due.intended_s for due in first] != [due.intended_s for due in second]


def contract(**more: object) -> Contract:
    return Contract.model_validate({"prompt_tokens": 10, "output_tokens": 4, "rate": "50 rps", **more})


def test_sessions_are_whole_and_grow() -> None:
    """Every turn but the first follows the one before it, thinks, and has its prompt and answer for a history."""
    talk = contract(sessions={"turns": 4, "think": "2 s"}, cache="any")
    schedule = draw(talk, REPLICATES, seed=1)
    assert len(schedule) == 28 + 3 * 40
    for first in range(0, len(schedule), 4):
        session = schedule[first : first + 4]
        assert [due.after for due in session] == [-1, first, first + 1, first + 2]
        assert len({due.replicate for due in session}) == 1
        assert [due.prompt_tokens for due in session] == [10, 24, 38, 52]
        assert [due.history_tokens for due in session] == [0, 14, 28, 42]
        assert session[0].think_s == 0.0
    thoughts = [due.think_s for due in schedule if due.after >= 0]
    assert stats.kstest(thoughts, stats.expon(scale=2.0).cdf).pvalue > 1e-3
    starts_s = [due.intended_s for due in schedule if due.after < 0]
    assert len(starts_s) / starts_s[-1] == pytest.approx(50.0 / 4, rel=0.4)
    mean = sum(due.prompt_tokens for due in schedule) / len(schedule)
    assert mean == Asked.of(talk, REPLICATES).prompt_tokens


def test_windows_of_broken_sessions_are_refused() -> None:
    """The nearest size that holds whole sessions is said."""
    with pytest.raises(UsageError, match="--requests 42"):
        draw(contract(sessions={"turns": 3, "think": "1 s"}, cache="any"), REPLICATES, seed=1)


def test_a_closed_loop_thinks_before_each_request() -> None:
    """Think times are drawn before the run; without a think time there is none."""
    busy = contract(arrival={"kind": "closed", "concurrency": 4})
    assert {due.think_s for due in draw(busy, REPLICATES, 1)} == {0.0}
    slow = contract(arrival={"kind": "closed", "concurrency": 4, "think": "500 ms"})
    thoughts = [due.think_s for due in draw(slow, REPLICATES, 1)]
    assert stats.kstest(thoughts, stats.expon(scale=0.5).cdf).pvalue > 1e-3
    assert draw(slow, REPLICATES, 1) == draw(slow, REPLICATES, 1)


def test_a_replay_is_read_and_checked(tmp_path: Path) -> None:
    """Recorded times are those of the schedule; too few are refused before anything starts."""
    file = tmp_path / "arrivals.txt"
    file.write_text("\n".join(str(3 + number / 50) for number in range(145)))
    replay = contract(arrival={"kind": "replay", "file": str(file)})
    assert [due.intended_s for due in draw(replay, REPLICATES, 1)] == pytest.approx([n / 50 for n in range(145)])
    with pytest.raises(UsageError, match="has 145 arrivals, the run needs 185"):
        draw(replay, REPLICATES.model_copy(update={"count": 4}), 1)


def test_the_certificates_load_is_even_and_as_fast_as_the_fastest(tmp_path: Path) -> None:
    """What waits for answers or changes its rate is proved by Poisson arrivals at its highest rate."""
    file = tmp_path / "arrivals.txt"
    file.write_text("0\n1\n1.1\n1.2\n")
    for arrival, peak in (
        ({"kind": "gamma", "cv": 2.0}, 50.0),
        ({"kind": "ramp", "from": "10 rps", "to": "90 rps"}, 90.0),
        ({"kind": "step", "rates": ["80 rps", "20 rps"]}, 80.0),
        ({"kind": "closed", "concurrency": 2}, 50.0),
        ({"kind": "replay", "file": str(file)}, 50.0),
    ):
        asked = contract(arrival=arrival)
        assert peak_rps(asked) == peak
        assert steady(asked).arrival.kind == ("gamma" if arrival["kind"] == "gamma" else "poisson")
    assert peak_rps(contract(arrival=arrival, rate="2 rps")) == 3.0
    assert steady(contract(sessions={"turns": 3, "think": "1 s"}, cache="any")).open_loop


def test_another_seed_is_another_schedule() -> None:
    """Seeds matter, and the same one gives the same schedule."""
    assert draw(CONTRACT, REPLICATES, 1) == draw(CONTRACT, REPLICATES, 1)
    assert draw(CONTRACT, REPLICATES, 1) != draw(CONTRACT, REPLICATES, 2)


def test_no_warm_up_when_none_is_asked() -> None:
    """A warm-up of 0 s has no requests."""
    replicates = REPLICATES.model_copy(update={"warm_up_s": 0.0})
    assert {due.replicate for due in draw(CONTRACT, replicates, 1)} == {0, 1, 2}


def test_a_written_schedule_reads_back(tmp_path: Path) -> None:
    """The file holds the schedule exactly, floats included."""
    schedule = draw(CONTRACT, REPLICATES, 9)
    write_schedule(tmp_path / "schedule.jsonl", schedule)
    assert read_schedule(tmp_path / "schedule.jsonl") == schedule


def test_a_damaged_schedule_is_refused(tmp_path: Path) -> None:
    """A line without its fields is an error, never a request of other values."""
    (tmp_path / "schedule.jsonl").write_text('{"index": 1}\n')
    with pytest.raises(msgspec.DecodeError):
        read_schedule(tmp_path / "schedule.jsonl")
