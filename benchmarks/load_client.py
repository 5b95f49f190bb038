"""Load generators against a server of known timing: `python benchmarks/load_client.py [--minutes 10] [--json FILE]`.

The golden server has one core, the tool the other; one after another, in one run. The truth is the server's own log.
Latencies count from the sending, as all these tools do; under the stall ours and the plain client count from the time
that was planned. Standard output is Markdown, progress goes to standard error. The tools' environment:
`python benchmarks/load_client.py --prepare` (locks/peers-load.txt, into .hxp/cache/peers) and, for vLLM's bench, the
one of `hxp perf --engine vllm --weights tiny`. Nothing here is a test: run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.load.environment import make_hub, prepare
from benchmarks.load.job import Job
from benchmarks.load.measured import Outcome, leave_on_sigterm, measure, rung_holds, stalled_truth
from benchmarks.load.page import put
from benchmarks.load.peers import ALL, Peer
from benchmarks.load.tables import tables
from hxp_harness.certify.behaviour import Behaviour

TIMING = Behaviour(ttft_s=0.1, itl_s=0.005)
TOKENS = 64
E2E_S = TIMING.ttft_s + (TOKENS - 1) * TIMING.itl_s
QUIET_RPS, STALL_RPS, LIMIT = 10.0, 20.0, 16
LEAST = 40  # requests of one try
LADDER_RPS = (50.0, 100.0, 200.0, 400.0, 800.0, 1000.0, 1200.0)
BROKEN = {"error event": {"error_at": 8}, "cut off": {"finish_reason": "", "done": False, "output_tokens": 8}}


@dataclass(slots=True)
class Found:
    """All outcomes of one run of the benchmark, by tool."""

    quiet: dict[str, Outcome] = field(default_factory=dict)
    ladder: dict[str, list[Outcome]] = field(default_factory=dict)
    stall: dict[str, tuple[Outcome, dict[str, float]]] = field(default_factory=dict)
    broken: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    not_tried: list[str] = field(default_factory=list)


def climb(peer: Peer, seconds: float, folder: Path, deadline_s: float) -> list[Outcome]:
    """Try rising rates until one fails on both counts, or the time is over."""
    found = []
    for rate_rps in LADDER_RPS:
        if time.monotonic() > deadline_s:
            break
        say(f"{peer.name}: {rate_rps:g} rps")
        job = Job(0, rate_rps, max(round(rate_rps * seconds / 2) * 2, LEAST), TOKENS, folder)
        found.append(measure(peer, job, TIMING))
        if not any(rung_holds(found[-1])):
            break
    return found


def run(peers: Sequence[Peer], minutes: float, folder: Path) -> Found:
    """Measure every part for every tool; the ladder takes what is left of the time."""
    found, begun_s = Found(), time.monotonic()
    scale = minutes / 10
    for peer in peers:
        say(f"{peer.name}: {QUIET_RPS:g} rps")
        job = Job(0, QUIET_RPS, max(round(QUIET_RPS * 6 * scale) * 2, LEAST), TOKENS, folder, poisson=True)
        found.quiet[peer.name] = measure(peer, job, TIMING, memory=True)
    for peer in peers:
        for limit in (0, LIMIT) if peer.limits else (0,):
            name = peer.name + (f", {limit} at most" if limit else "")
            say(f"{name}: the server stands still for 3 s")
            requests = round(STALL_RPS * 8)
            job = Job(0, STALL_RPS, requests, TOKENS, folder, most_open=limit, from_intended=True)
            outcome = measure(peer, job, TIMING, stall=True)
            found.stall[name] = (outcome, dict(stalled_truth(outcome, job, E2E_S)))
    for peer in peers:
        for name, changes in BROKEN.items():
            say(f"{peer.name}: every answer ends so: {name}")
            job = Job(0, STALL_RPS, 20, TOKENS, folder)
            broken = Behaviour(ttft_s=TIMING.ttft_s, itl_s=TIMING.itl_s, **changes)  # type: ignore[arg-type]  # data
            found.broken.setdefault(peer.name, {})[name] = measure(peer, job, broken)
    left_s = max(minutes * 60 - (time.monotonic() - begun_s), 0.0)
    for number, peer in enumerate(reversed(peers)):  # the slow ones end early and leave their time to the others
        share_s = left_s * (number + 1) / len(peers)
        deadline_s = begun_s + (minutes * 60 - left_s) + share_s
        found.ladder[peer.name] = climb(peer, 4 * scale, folder, deadline_s)
        if not found.ladder[peer.name] or any(rung_holds(found.ladder[peer.name][-1])):
            found.not_tried.append(peer.name)
    return found


def say(text: str) -> None:
    """Tell what goes on, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="about so long in all; default: %(default)s")
    parser.add_argument("--tools", nargs="+", default=[peer.name for peer in ALL], help="some of: %(default)s")
    parser.add_argument("--json", type=Path, help="write every outcome here")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/reference/figures.md too")
    parser.add_argument("--prepare", action="store_true", help="only install the tools' environment")
    options = parser.parse_args()
    if options.prepare:
        return prepare(say)
    missing = make_hub()
    if missing:
        parser.error(missing)
    peers = [peer for peer in ALL if peer.name in options.tools]
    if len(peers) != len(options.tools):
        parser.error(f"--tools knows {', '.join(peer.name for peer in ALL)}")
    if len(os.sched_getaffinity(0)) < 2:
        say("only one core here: server and tool share it, and the figures say little")
    say(f"load average {os.getloadavg()[0]:.2f}: the figures want a machine on which nothing else runs")
    leave_on_sigterm()
    with tempfile.TemporaryDirectory() as name:
        found = run(peers, options.minutes, Path(name))
    text = tables(found, [peer.name for peer in peers])
    print(text)
    if options.docs:
        put("load_client", text)
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=1, default=str), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
