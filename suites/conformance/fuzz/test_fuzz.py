"""Generated requests get answers of one class from the server under test and from the simulation."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from suites.conformance.fuzz.comparison import Comparison
from suites.conformance.fuzz.grammar import CASES, Case
from suites.conformance.fuzz.settled import Settled, left_over, read
from suites.conformance.wire import Server

ROWS = read()


def shown(line: str, case: Case) -> str:
    body = case.body.decode("utf-8", "backslashreplace")
    return f"{line}\n    {case.method} {case.path} {dict(case.headers)} {body[:300]}"


def test_generated_requests_are_answered_alike(
    comparison: Comparison, fuzz_seed: int, pytestconfig: pytest.Config, say: list[str]
) -> None:
    """Of all generated requests, none is answered otherwise by the simulation, except where it is settled why."""
    cases, limit_s = pytestconfig.getoption("--fuzz-cases"), pytestconfig.getoption("--fuzz-minutes") * 60
    begin_s = time.monotonic()

    @seed(fuzz_seed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(CASES)
    def ask(case: Case) -> None:
        if time.monotonic() - begin_s < limit_s:
            comparison.keep(case)

    ask()
    took_s = time.monotonic() - begin_s
    counts = ", ".join(f"{count} x {kind}" for kind, count in comparison.asked.most_common())
    asked = comparison.asked.total()
    again = f"--fuzz-seed {fuzz_seed} --fuzz-cases {cases}"
    say += [f"fuzz: {asked} of {cases} requests in {took_s:.0f} s ({counts}); again with {again}"]
    say += [
        f"fuzz: settled difference seen: {row.difference}" for row in ROWS if any(map(row.covers, comparison.found))
    ]
    open_lines = left_over(sorted(comparison.found), ROWS)

    assert comparison.asked["200"] > asked / 10
    assert comparison.asked["400"] > asked / 10
    assert comparison.asked["200 streamed"] > asked / 50
    assert not open_lines, "\n".join(
        [f"{len(open_lines)} differences (simulation | {comparison.other.target.base_url}):"]
        + [shown(line, comparison.shrink(line)) for line in open_lines]
    )


@pytest.mark.parametrize("row", ROWS, ids=[row.difference for row in ROWS])
def test_what_is_settled_is_still_so(comparison: Comparison, row: Settled) -> None:
    """Each settled difference is still there, so that the list is no longer than it must be."""
    example: dict[str, Any] = dict(row.example)
    raw = example.pop("raw", None)
    case = Case(**example) if raw is None else Case(**example, raw=raw.encode())

    assert any(row.covers(line) for line in comparison.ask(case)), json.dumps(row.example)


def test_the_server_is_still_well(server: Server) -> None:
    """After all of this the server serves."""
    assert server.chat().status == 200
