"""The benchmark of load generators: its truth, its readers and its tables, against cases worked out by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.load import noise
from benchmarks.load.job import Job, Reported, statistics
from benchmarks.load.measured import Outcome, measure, rung_holds, stalled_truth, true_figures
from benchmarks.load.peers import ALL, CACHE
from benchmarks.load.tables import arrivals_p, goals, marginal_cpu_s, tables
from benchmarks.load_client import Found
from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.truth import Truth, TruthEvent

PEERS = {peer.name: peer for peer in ALL}
POINT = {"mean": 0.1, "p50": 0.1, "p99": 0.2}
FIGURES = {"ttft": POINT, "itl": POINT, "e2e": POINT}


def outcome(tool: str, rate_rps: float, **changes: object) -> Outcome:
    """A tool that reported the truth and kept its rate."""
    arrivals_s = [number / rate_rps for number in range(200)]
    exact = Outcome(tool, rate_rps, "", Reported(200, 0, FIGURES, 0.1), FIGURES, arrivals_s, 0.5, 2.0, 2**25, 2**26)
    return replace(exact, **changes)  # type: ignore[arg-type]  # fields by name


def test_statistics_are_order_statistics() -> None:
    """p99 of a hundred values is the 99th, not an interpolation; nothing has none."""
    assert statistics([float(value) for value in range(1, 101)]) == {"mean": 50.5, "p50": 50.0, "p99": 99.0}
    assert statistics([]) == {}


def test_the_truth_counts_from_the_arrival() -> None:
    """A token counts in the middle of its sending; answers that were not whole count nowhere."""
    events = [TruthEvent(1.1, 1.1, 1.1002, 1), TruthEvent(1.2, 1.2, 1.2002, 1)]
    whole = Truth("a", 1.0, 1.0, 1.0, stream=True, prompt_tokens=1, asked_tokens=2, events=events, ended="complete")
    broken = Truth("b", 0.0, 0.0, 0.0, stream=True, prompt_tokens=1, asked_tokens=2, events=events, ended="error")
    found = true_figures([whole, broken])

    assert found["ttft"]["p99"] == pytest.approx(0.1001)
    assert found["itl"]["mean"] == pytest.approx(0.1)
    assert found["e2e"]["p50"] == pytest.approx(0.2001)


def test_a_stall_delays_all_who_were_due() -> None:
    """Of ten requests a second apart, a stop from 3.0 to 6.0 s holds up those due at 3, 4 and 5 s until its end."""
    found = stalled_truth(outcome("x", 1.0, stalled_at_s=3.0), Job(0, 1.0, 10, 64, Path()), 0.5)

    assert found["p99"] == pytest.approx(3.0)
    assert found["mean"] == pytest.approx((7 * 0.5 + 3.0 + 2.0 + 1.0) / 10)


def test_a_rung_holds_within_a_millisecond_and_two_percent() -> None:
    """TTFT and rate are judged apart; a tool that ended badly held neither."""
    late = {**FIGURES, "ttft": {**POINT, "p99": 0.2011}}
    assert rung_holds(outcome("x", 100.0)) == (True, True)
    assert rung_holds(outcome("x", 100.0, reported=Reported(200, 0, late))) == (False, True)
    assert rung_holds(replace(outcome("x", 100.0), rate_rps=103.0)) == (True, False)
    assert rung_holds(outcome("x", 100.0, problem="exit status 1", reported=None)) == (False, False)


def test_even_arrivals_are_no_poisson_process() -> None:
    """A constant rate fails the test that exponential gaps pass; a tool that failed has no answer."""
    import random

    draw, times_s = random.Random(1), [0.0]
    for _ in range(300):
        times_s.append(times_s[-1] + draw.expovariate(10.0))
    even, poisson = arrivals_p(outcome("x", 10.0)), arrivals_p(outcome("x", 10.0, arrivals_s=times_s))

    assert even is not None
    assert even < 0.01
    assert poisson is not None
    assert poisson > 0.01
    assert arrivals_p(outcome("x", 10.0, problem="gone")) is None


def _guide(mean: float) -> dict[str, object]:
    return {"successful": {"count": 3, "mean": mean, "percentiles": {"p50": mean, "p99": mean}}}


BENCH = {f"{s}_{k}_ms": 100.0 for s in ("mean", "p50", "p99") for k in ("ttft", "itl", "e2el")}
AIPERF = ("time_to_first_token", "inter_token_latency", "request_latency")
GUIDE = {
    "request_totals": {"successful": 3, "errored": 1, "incomplete": 0},
    "time_to_first_token_ms": _guide(100.0),
    "inter_token_latency_ms": _guide(100.0),
    "request_latency": _guide(0.1),
}
REPORTS = [
    ("vllm bench serve", "bench.json", {"completed": 3, "failed": 1, **BENCH}),
    (
        "AIPerf",
        "aiperf/profile_export_aiperf.json",
        {"request_count": {"avg": 3.0}, **{name: {"avg": 100.0, "p50": 100.0, "p99": 100.0} for name in AIPERF}},
    ),
    ("GuideLLM", "guide.json", {"benchmarks": [{"metrics": GUIDE}]}),
]


@pytest.mark.parametrize(("name", "file", "content"), REPORTS)
def test_reports_are_read_in_seconds(name: str, file: str, content: dict[str, object], tmp_path: Path) -> None:
    """Each tool's file gives the same figures in seconds, with its successes and failures."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    found = PEERS[name].read(Job(1, 10.0, 4, 64, tmp_path), "")

    assert (found.ok, found.failed) == (3, 1)
    for metric in ("ttft", "itl", "e2e"):
        assert found.figures[metric] == pytest.approx({"mean": 0.1, "p50": 0.1, "p99": 0.1})


@pytest.mark.parametrize("name", PEERS)
def test_each_tool_is_told_rate_number_and_length(name: str, tmp_path: Path) -> None:
    """The command of every tool, or the job it reads, has the port, the rate, how many and how long."""
    words = " ".join(PEERS[name].argv(Job(4321, 12.5, 40, 77, tmp_path, poisson=True, most_open=9)))
    told = words + "".join(file.read_text(encoding="utf-8") for file in tmp_path.glob("job.json"))

    for part in ("4321", "12.5", "40", "77"):
        assert part in told
    if PEERS[name].limits:
        assert "9" in words.split()


def test_a_missing_tool_is_a_line_and_no_crash(tmp_path: Path) -> None:
    """What is not installed is told with the command that installs it."""
    gone = replace(PEERS["AIPerf"], program=tmp_path / "aiperf")
    found = measure(gone, Job(0, 10.0, 4, 64, tmp_path), Behaviour())

    assert "--prepare" in found.problem
    assert CACHE.name == "cache"


def test_our_client_and_the_plain_one_are_measured(tmp_path: Path) -> None:
    """Both tell the truth about a real server within what a busy machine allows, and what they used is known."""
    job = Job(0, 50.0, 40, 8, tmp_path)
    for name in ("hxp", "plain asyncio"):
        found = measure(PEERS[name], job, Behaviour(ttft_s=0.02, itl_s=0.002), memory=True)

        assert not found.problem
        assert found.reported is not None
        assert (found.reported.ok, found.reported.failed) == (40, 0)
        assert found.error_s("itl", "mean") == pytest.approx(0.0, abs=0.02)
        assert len(found.arrivals_s) == 40
        assert found.cpu_s > 0
        assert 2**22 < found.largest_rss_bytes <= found.memory_bytes * 8


def test_broken_answers_are_no_successes(tmp_path: Path) -> None:
    """Ours counts neither an error event under status 200 nor a stream that is cut off."""
    for changes in ({"error_at": 3}, {"finish_reason": "", "done": False, "output_tokens": 4}):
        broken = Behaviour(ttft_s=0.02, itl_s=0.002, **changes)
        found = measure(PEERS["hxp"], Job(0, 50.0, 20, 8, tmp_path), broken)
        assert found.reported is not None
        assert (found.reported.ok, found.reported.failed) == (0, 20)


def test_the_tables_show_everything_and_judge_the_goals() -> None:
    """Every tool has its row in every table; a perfect tool meets the goals that depend on it, a failed one is told."""
    found = Found()
    for tool in ("hxp", "AIPerf"):
        found.quiet[tool] = outcome(tool, 10.0)
        found.ladder[tool] = [outcome(tool, rate_rps) for rate_rps in (50.0, 400.0, 1000.0)]
        found.stall[tool] = (outcome(tool, 20.0), dict(POINT))
        found.broken[tool] = {
            name: outcome(tool, 20.0, reported=Reported(0, 20)) for name in ("error event", "cut off")
        }
    found.quiet["AIPerf"] = outcome("AIPerf", 10.0, problem="exit status 9", reported=None)
    text = tables(found, ["hxp", "AIPerf"])
    met = {goal: answer for goal, _, answer in goals(found)}

    assert text.count("\n| hxp |") == 5
    assert "AIPerf: exit status 9" in text
    assert met["TTFT and ITL p99 within 0.1 ms up to 400 rps x 64"] == "met"
    assert met["rate held to 1,000 rps x 64"] == "met"
    assert met["5 times the best Python peer"] == "MISSED"
    assert met["hot loop 12 us a token"] == "met"
    assert met["failed answers never counted as successes"] == "met"
    assert met["arrivals pass a KS test"] == "MISSED"


@pytest.mark.parametrize(("cpu_s", "each_s"), [(2.0, 0.01), (0.9, None), (0.3, None)])
def test_what_streams_cost_is_told_where_it_is_more_than_the_start(cpu_s: float, each_s: float | None) -> None:
    """A hundred streams more for 1.0 s more are 10 ms each; for less than the start, no figure."""
    few, most = outcome("hxp", 10.0, cpu_s=1.0), outcome("hxp", 50.0, cpu_s=cpu_s)
    most = replace(most, arrivals_s=[number / 50.0 for number in range(300)])

    assert marginal_cpu_s(Found(quiet={"hxp": few}, ladder={"hxp": [most]}), "hxp") == each_s


def test_what_was_not_measured_meets_no_goal() -> None:
    """A client that never came to its end misses every goal, whatever zeros stand in its outcome."""
    gone = Outcome("hxp", 10.0, "exit status 1")
    found = Found(quiet={"hxp": gone}, stall={"hxp": (gone, dict(POINT))}, broken={"hxp": {"cut off": gone}})

    assert {(seen, answer) for _, seen, answer in goals(found)} == {("not measured", "MISSED")}


def test_noise_stops_a_process_and_lets_it_go() -> None:
    """While stops last the process is seen stopped; afterwards it runs, and a hog is gone."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:  # lives until it is ended
        try:
            seen, deadline_s = set[str](), time.monotonic() + 30
            with noise.made(noise.Noise("x", stop_s=0.3), lambda: [process.pid], min(os.sched_getaffinity(0)), 1):
                while "T" not in seen and time.monotonic() < deadline_s:
                    seen.add(_state(process.pid))
            assert "T" in seen
            while _state(process.pid) == "T" and time.monotonic() < deadline_s:
                pass  # the last SIGCONT is on its way
            assert _state(process.pid) != "T"
        finally:
            process.send_signal(signal.SIGKILL)
    before = _children()
    with noise.made(noise.Noise("x", hog=True), list, min(os.sched_getaffinity(0)), 1):
        assert len(_children()) == len(before) + 1
    assert _children() == before


TOOL = """
import os, pathlib, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # lives until it is ended
note = pathlib.Path(sys.argv[1])
note.with_suffix(".new").write_text(f"{os.getpid()} {helper.pid}")
note.with_suffix(".new").rename(note)
time.sleep(600 if sys.argv[2] == "stays" else 0)  # likewise, or leaves its helper behind
"""
BENCHMARK = """
import pathlib, sys
from benchmarks.load.job import Job, Reported
from benchmarks.load.measured import leave_on_sigterm, measure
from benchmarks.load.peers import Peer
from hxp_harness.certify.behaviour import Behaviour
leave_on_sigterm()
argv = [sys.executable, "-c", *sys.argv[2:]]
peer = Peer("x", pathlib.Path(sys.executable), lambda _: argv, lambda _job, _out: Reported(0, 0))
measure(peer, Job(0, 10.0, 2, 8, pathlib.Path(sys.argv[1])), Behaviour())
"""


@pytest.mark.parametrize("ends", ["stays", "leaves"])
def test_no_tool_outlives_its_measurement(ends: str, tmp_path: Path) -> None:
    """A benchmark that is told to end ends the tool and what that started; so does one whose tool left something."""
    note = tmp_path / "note"
    argv = [sys.executable, "-c", BENCHMARK, str(tmp_path), TOOL, str(note), ends]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as benchmark:
        try:
            deadline_s = time.monotonic() + 60
            while not note.exists() and time.monotonic() < deadline_s:
                time.sleep(0.02)  # polls another process, with a deadline
            pids = [int(pid) for pid in note.read_text(encoding="utf-8").split()]
            if ends == "stays":
                benchmark.send_signal(signal.SIGTERM)
            assert benchmark.wait(60) == (128 + signal.SIGTERM if ends == "stays" else 0)
            while any(map(_lives, pids)) and time.monotonic() < deadline_s:
                time.sleep(0.02)  # polls processes that are not ours, with a deadline
            assert not any(map(_lives, pids))
        finally:
            benchmark.kill()


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and _state(pid) != "Z"


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
