"""The fast path of the self-test is the verdict itself, and the table tells when it errs."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hxp_harness.errors import ExitCode, UsageError
from hxp_harness.gates.gate import Gate
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.outcome import Outcome
from hxp_harness.gates.prospect import Plan
from hxp_harness.gates.saturation import mean_in_flight
from hxp_harness.gates.verdict import judge
from hxp_harness.selfcheck import servers
from hxp_harness.selfcheck.planned import Lengths, follow, try_planned
from hxp_harness.selfcheck.program import MARKS, RATIOS, Size, selfcheck
from hxp_harness.selfcheck.servers import SERVERS, Floats, Server
from hxp_harness.selfcheck.table import Cell, broken, lines, rate
from hxp_harness.selfcheck.trial import Ended, Trial, counts_over
from tests.hxp_harness.gates.conftest import REQUESTS, Run, run

__all__ = ["run"]  # the fixture
TRUE = math.exp(servers.SPREAD * 1.6448536269514722)


def gate(limit: float, q: int = 95) -> Gate:
    return Gate("e2e", f"p{q}", "<=", limit, f"e2e p{q} <= {limit} s")


def latencies(seed: int, count: int = 16_000) -> Floats:
    return np.asarray(servers.independent(np.random.default_rng(seed), 1, count)[0])


@pytest.mark.parametrize("ratio", [0.6, 0.93, 1.0, 1.07, 2.0])
def test_it_judges_as_the_verdict_does(run: Callable[..., Run], ratio: float) -> None:
    """On the same latencies the whole judge, traces and all, comes to the same outcome."""
    latency_s = latencies(4, 8 * REQUESTS)
    real = run(*[1.0] * 8, pace=lambda index: float(latency_s[index]))
    limit = TRUE / ratio

    whole = judge(real.table, parse_gates([f"e2e p95 <= {limit!r} s", "error_rate <= 1 %"]), real.facts)
    (fast,) = Trial(latency_s, 8, mean_in_flight(real.table)).ours([gate(limit)])

    assert fast.outcome is whole.gates[0].outcome


def test_what_is_clear_ends_early() -> None:
    """A clear PASS takes a quarter of the run and a clear FAIL a fifth."""
    passed, failed = Trial(latencies(1), 8).ours([gate(TRUE / 0.75), gate(TRUE / 1.5)])

    assert passed == Ended(Outcome.PASS, 0.25)
    assert failed.outcome is Outcome.FAIL
    assert failed.used <= 0.2


def test_a_failure_between_two_looks_ends_the_run() -> None:
    """Where an eighth of the run does not decide, the bets do before half of it."""
    cold = servers.cold_start(np.random.default_rng(1), 1, 16_000)[0]
    (failed,) = Trial(cold, 8).ours([gate(TRUE / 1.5)])

    assert failed.outcome is Outcome.FAIL
    assert 0.125 < failed.used < 0.5


def test_a_drift_is_invalid() -> None:
    """A run that drifts has no one value to judge; of 25, at most one ends as PASS before that is seen."""
    drifting = servers.drifting(np.random.default_rng(1), 25, 16_000)
    ended = [Trial(run, 8).ours([gate(TRUE * 1.6)])[0] for run in drifting]

    assert {one.outcome for one in ended} <= {Outcome.INVALID, Outcome.PASS}
    assert sum(one.outcome is Outcome.PASS for one in ended) <= 1


def test_rivals_decide_by_their_own_rules() -> None:
    """k6 always decides; LoadGen and the t-test leave open what lies within their bounds."""
    trial = Trial(latencies(2), 8)

    assert [trial.k6(gate(TRUE * factor)) for factor in (1.1, 0.9)] == [Outcome.PASS, Outcome.FAIL]
    for rule in (trial.loadgen, trial.t_test):
        found = [rule(gate(TRUE * factor)) for factor in (1.1, 1.0, 0.9)]
        assert found == [Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL]
    assert [name for name, _ in trial.rivals(gate(TRUE))] == ["k6", "LoadGen", "t-test"]


def test_the_planner_asks_for_more_where_requests_cluster() -> None:
    """Where slow requests come together, ten percent of headroom take more replicates; alone the least will do."""
    clustered = servers.autoregressive(np.random.default_rng(1), 1, 16_000)[0]
    asked = [Trial(latency_s, 8).plan(gate(TRUE)) for latency_s in (latencies(1), clustered)]

    assert asked[0] == Plan(8)
    assert asked[1] is not None
    assert 8 < asked[1].replicates < 64


def test_where_the_service_lies_does_not_change_the_plan() -> None:
    """What a run must be long enough for is the headroom asked about, not what was seen by chance."""
    clustered = servers.autoregressive(np.random.default_rng(1), 1, 16_000)[0]

    assert len({Trial(clustered, 8).plan(gate(TRUE * factor)) for factor in (0.95, 1.0, 1.05)}) == 1


def test_a_run_that_saw_too_little_is_no_pilot() -> None:
    """From three or four long queues nobody can tell how long queues are: a longer run comes first."""
    queued = servers.queue(np.random.default_rng(1), 1, 16_000)[0]

    assert Trial(queued, 8).plan(gate(float(np.quantile(queued, 0.9)))) == Plan(32, sure=False, seen=False)


def test_no_run_is_planned_from_one_a_fifth_as_long() -> None:
    """What a run many times as long would meet is not known from this one: the next is four times as long at most."""
    wandering = servers.autoregressive(np.random.default_rng(2), 1, 64_000)[0]
    short, long = Trial(wandering[:8_000], 4).plan(gate(TRUE)), Trial(wandering, 32).plan(gate(TRUE))

    assert short is not None
    assert short.replicates <= 32
    assert long is not None
    assert long.sure


def test_shares_are_those_of_the_parts() -> None:
    """Parts are as even as can be, as the judge cuts them."""
    latency_s = latencies(3, 1003)

    assert counts_over(latency_s, TRUE, 10) == [
        (int((part > TRUE).sum()), len(part)) for part in np.array_split(latency_s, 10)
    ]


def test_what_the_planner_asks_for_suffices() -> None:
    """Of twelve runs as long as it asks for, eight or more pass at ten percent of headroom (80 % are promised)."""
    found = try_planned(SERVERS[1], TRUE, 12, [5], Lengths(8, 2000))

    assert found.at_headroom.count(Outcome.PASS) >= 8
    assert found.at_limit.count(Outcome.INCONCLUSIVE) >= 11
    assert all(used <= 1.0 for shares in found.clear.values() for used in shares)
    assert found.line().startswith("| autoregressive | ")


def test_what_needs_days_is_not_tried() -> None:
    """A plan beyond what is tried out ends as not decided."""
    (found,) = follow(SERVERS[3], [19.5], np.random.default_rng(1), Lengths(8, 2000, most=16))

    assert (found.replicates, found.outcome) == (8, Outcome.INCONCLUSIVE)


@pytest.mark.parametrize("server", SERVERS[:2], ids=lambda server: server.name)
def test_the_verdict_keeps_its_promise(server: Server) -> None:
    """In sixty runs at the limit no more than two end falsely, and with 30 % of headroom most pass."""
    random = np.random.default_rng(9)
    ended = [Trial(latency_s, 8).ours([gate(TRUE), gate(TRUE / 0.7)]) for latency_s in server.draw(random, 60, 16_000)]

    assert sum(at_limit.outcome in {Outcome.PASS, Outcome.FAIL} for at_limit, _ in ended) <= 2
    assert sum(clear.outcome is Outcome.PASS for _, clear in ended) >= 40


def test_a_broken_promise_is_seen() -> None:
    """Ten false outcomes in a hundred are a broken promise, two are chance, and right ones are none."""

    def cell(ratio: float, outcome: Outcome, count: int) -> Cell:
        found = Cell("a server", ratio, 8)
        for number in range(100):
            found.add(Ended(outcome if number < count else Outcome.INCONCLUSIVE), [("k6", Outcome.PASS)])
        return found

    assert broken([cell(1.05, Outcome.PASS, 10)]) == [
        f"a server at 1.05: false PASS in {rate(10, 100)}",
    ]
    assert broken([cell(0.9, Outcome.FAIL, 10)])[0].startswith("a server at 0.9: false FAIL")
    drifting = replace(cell(0.75, Outcome.PASS, 10), level=False)
    assert broken([drifting])[0].startswith("a server at 0.75: false PASS")  # what drifts has nothing that may pass
    assert broken([cell(1.0, Outcome.PASS, 2), cell(0.9, Outcome.PASS, 90), cell(1.1, Outcome.FAIL, 90)]) == []
    assert "| 10.0% | 0.0% | 90.0% | 0.0% | 100% | 100.0% [96.4%, 100.0%] |" in lines([cell(1.0, Outcome.PASS, 10)])[2]


def test_the_program_prints_its_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A short run of the program has a line for each ratio, the power, and a verdict on itself; a page gets them."""
    said: list[str] = []
    page = tmp_path / "page.md"
    page.write_text(f"before {MARKS[0]} old {MARKS[1]} after", encoding="utf-8")
    size = Size(runs=25, power_runs=5, truth=400_000)

    code = selfcheck(size, 1, said.append, SERVERS[:2], page=page)

    out = capsys.readouterr().out
    assert code == ExitCode.PASS
    assert said[0] == "the truth of 2 servers"
    assert said[-1].startswith("8 of 8 parts")
    assert out.count("| independent |") == len(RATIOS) + 2  # what it is, and what came of the planner's runs
    assert "25 runs of 8 x 2,000 requests of each server, seed 1:" in out
    assert "- No run ended as false PASS." in out
    assert [out.count(f"| independent, 8 x {requests} |") for requests in (346, 87)] == [1, 1]
    assert out.endswith("No rate of false PASS or false FAIL is significantly over 1 %.\n")
    assert page.read_text(encoding="utf-8") == f"before {MARKS[0]}\n\n{out}\n{MARKS[1]} after"


@pytest.mark.parametrize("text", [None, f"{MARKS[1]} {MARKS[0]}"])
def test_a_page_without_a_place_is_refused_first(tmp_path: Path, text: str | None) -> None:
    """A page that is not there or has no marks is refused before half an hour is spent."""
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match="page"):
        selfcheck(Size(runs=1, power_runs=0, truth=1), 1, lambda _: None, page=page)


def test_the_program_fails_when_a_promise_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that changes between truth and trial makes false verdicts, and the exit code says so."""

    def improving(random: np.random.Generator, runs: int, count: int) -> Floats:
        return servers.independent(random, runs, count) * 0.5

    server = Server("improving", "", improving, truth_of=servers.independent)
    code = selfcheck(Size(runs=25, power_runs=0, truth=1), 1, lambda _: None, [server])

    assert code == ExitCode.FAIL
    assert "improving at 1: false PASS in 100.0%" in capsys.readouterr().out
