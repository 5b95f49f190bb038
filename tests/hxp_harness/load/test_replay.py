"""Recorded arrivals are read strictly, and refused when they are not the contract's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hxp_harness.errors import UsageError
from hxp_harness.load.replay import check_times, peak_rps, read_times
from hxp_harness.load.schedule import draw
from hxp_harness.profile import Contract, Replicates


def test_times_are_read(tmp_path: Path) -> None:
    """One number a line; empty lines and comments do not count, equal times do."""
    file = tmp_path / "arrivals.txt"
    file.write_text("# seconds\n0.5\n\n1.25 # burst\n1.25\n3e1\n")
    assert read_times(file).tolist() == [0.5, 1.25, 1.25, 30.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\ntwo\n", "line 2: 'two' is no number"),
        ("1\n0.5\n", "line 2: 0.5 is not at or after"),
        ("1\nnan\n", "line 2"),
        ("inf\n", "line 1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    """File and line stand in the refusal."""
    file = tmp_path / "arrivals.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"arrivals\.txt") as raised:
        read_times(file)
    assert said in str(raised.value)


def trace(folder: Path, *rows: dict[str, object]) -> Path:
    """Write a trace of requests as Mooncake does."""
    file = folder / "trace.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def row(at_ms: float, prompt: int = 100, output: int = 10, **more: object) -> dict[str, object]:
    return {"timestamp": at_ms, "input_length": prompt, "output_length": output, "hash_ids": [0], **more}


def test_recorded_requests_have_times_and_lengths(tmp_path: Path) -> None:
    """Milliseconds become seconds, lengths go into the schedule in the file's order, each under its bucket."""
    rows = [row(500 + 100 * place, 90 + 20 * (place % 2), 10) for place in range(30)]
    arrival = {"kind": "replay", "file": str(trace(tmp_path, *rows))}
    contract = Contract.model_validate(
        {"prompt_tokens": 100, "output_tokens": 10, "rate": "10 rps", "arrival": arrival}
    )
    schedule = draw(contract, Replicates.model_validate({"count": 2, "requests": 10, "warm_up_s": 0.5}), 1)
    assert [due.intended_s for due in schedule] == pytest.approx([0.1 * place for place in range(25)])
    assert [due.prompt_tokens for due in schedule] == [90 + 20 * (place % 2) for place in range(25)]
    assert {(due.output_tokens, due.tag) for due in schedule} == {(10, "in128-out16")}
    assert len({due.seed for due in schedule}) == 25


@pytest.mark.parametrize(
    ("rows", "said", "hint"),
    [
        (
            [row(0), {"timestamp": 1, "input_length": 5, "ouput_length": 7}],
            "line 2: output_length is missing",
            "ouput_l",
        ),
        ([{"time": "x"}], "line 1: timestamp is missing", "timestamp"),
        ([row(0, 0)], "line 1: input_length is a whole number", "512"),
        ([row(0, output=True)], "line 1: output_length is", "64"),
        ([row(-1.5)], "line 1: timestamp is milliseconds", "250"),
        ([row(5), row(4.5)], "request 2 comes before", "sort"),
    ],
)
def test_a_wrong_request_is_named(tmp_path: Path, rows: list[dict[str, object]], said: str, hint: str) -> None:
    """The refusal has the line, the key, and what it should be."""
    with pytest.raises(UsageError) as raised:
        read_times(trace(tmp_path, *rows))
    assert said in str(raised.value)
    assert hint in (raised.value.hint or "")


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    """A cut line is told by its number."""
    file = tmp_path / "trace.jsonl"
    file.write_text(json.dumps(row(0)) + "\n{")
    with pytest.raises(UsageError, match="line 2"):
        read_times(file)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompt_tokens": 200}, "prompts have a mean of 100"),
        ({"output_tokens": 20}, "answers have a mean of 10"),
        ({"prompt_lengths": {"kind": "uniform", "from": 50, "to": 150}}, "prompt_lengths exclude each other"),
    ],
)
def test_recorded_lengths_are_the_contracts(tmp_path: Path, more: dict[str, object], said: str) -> None:
    """Lengths of another mean are refused, and lengths that are said twice."""
    arrival = {"kind": "replay", "file": str(trace(tmp_path, *[row(100 * place) for place in range(30)]))}
    tree = {"prompt_tokens": 100, "output_tokens": 10, "rate": "10 rps", "arrival": arrival, **more}
    with pytest.raises(UsageError) as raised:
        draw(Contract.model_validate(tree), Replicates.model_validate({"count": 2, "requests": 10, "warm_up_s": 0}), 1)
    assert said in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path stands in the refusal."""
    with pytest.raises(UsageError, match=r"gone\.txt"):
        read_times(tmp_path / "gone.txt")


def test_too_few_arrivals_are_refused() -> None:
    """How many there are and how many it takes, both are said."""
    with pytest.raises(UsageError, match="has 3 arrivals, the run needs 4"):
        check_times(Path("x"), np.arange(3.0), 4, 1.0)


def test_another_rate_than_the_contracts_is_refused() -> None:
    """Recorded times are never stretched to fit: the right rate is said instead."""
    check_times(Path("x"), np.arange(11.0), 11, 1.05)
    with pytest.raises(UsageError, match="rate: 1 rps"):
        check_times(Path("x"), np.arange(11.0), 11, 2.0)
    with pytest.raises(UsageError, match="inf"):
        check_times(Path("x"), np.zeros(11), 11, 2.0)


def test_the_peak_is_that_of_one_second() -> None:
    """The most arrivals that any second holds; of none there is one at most."""
    assert peak_rps(np.array([0.0, 5.0, 5.1, 5.9, 6.05, 9.0])) == 3.0
    assert peak_rps(np.zeros(0)) == 1.0
