"""A schedule is complete, reproducible and written before the first request."""

from pathlib import Path

import msgspec
import pytest

from hxp_harness.load.schedule import WARM_UP, draw, read_schedule, write_schedule
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
    constant = CONTRACT.model_copy(update={"arrival": "constant"})
    first, second = draw(CONTRACT, REPLICATES, 5), draw(constant, REPLICATES, 5)
    assert [due.seed for due in first] == [due.seed for due in second]
    assert [due.intended_s for due in first] != [due.intended_s for due in second]


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
