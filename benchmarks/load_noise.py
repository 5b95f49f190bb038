"""Is what we report still true where the machine is not quiet? `python benchmarks/load_noise.py [--runs 20] [--peers]`.

Each run sends streams to the golden server while a hog wants the client's core, or the client is stopped for 5, 20 or
100 ms at random (every half second on average). Two questions. Does the true time of every token of a request, from the
server's log, lie within the reported interval (20 us for two clocks)? And is a verdict wrong: a PASS where the server's
true p95 is over the limit, or a FAIL where it is under it, with limits 10 % to either side of the truth? INCONCLUSIVE
and INVALID are never wrong. A run has four replicates of 100 requests, 90 being the fewest that a p95 takes, so that it
lasts 4 s and the 100 runs of `--runs 20` take 7 minutes.

With --peers the tools of load_client.py have the same noise, instead of ours, at a rate that they hold: about 7
minutes. They report points, and their verdict is whether their TTFT p99 is under the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmarks.load.environment import make_hub
from benchmarks.load.job import Job, statistics
from benchmarks.load.measured import Outcome, leave_on_sigterm, measure
from benchmarks.load.noise import ALL as NOISES
from benchmarks.load.noise import Noise, made
from benchmarks.load.page import put
from benchmarks.load.peers import ALL as PEERS
from hxp_harness.certify.accuracy import pair
from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.certify.truth import Truth
from hxp_harness.gates.facts import Asked, Certified, RunFacts
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.gates.verdict import judge
from hxp_harness.load.plan import LoadPlan, LoadSummary
from hxp_harness.load.schedule import draw
from hxp_harness.load.session import LoadSession
from hxp_harness.metrics.table import TraceTable
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import Trace

SLACK_S = 20e-6
GOLDEN_LATE_S = 0.01  # p99
TIMING = Behaviour(ttft_s=0.05, itl_s=0.004, jitter_s=0.01)
TOKENS, REPLICATES, MARGIN = 64, 4, 0.1
WRONG = {("over", "FAIL"), ("under", "PASS")}  # where the limit lies beside the truth, and what was said


@dataclass(slots=True)
class Tally:
    """What became of all runs under one noise."""

    requests: int = 0
    inside: int = 0  # every token of them
    failed: int = 0
    widest_s: float = 0.0  # p99 of the width of the first token's interval, the worst run
    verdicts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)  # what each wrong verdict said
    spoilt: int = 0  # runs in which the server itself was late: what it did then is no known truth to judge by
    send_lag_s: float = 0.0  # p99, the worst run


def one_run(noise: Noise, rate_rps: float, seconds: float, seed: int, cores: tuple[int, int], tally: Tally) -> None:
    """Send one load under `noise` and add what was found to `tally`."""
    contract = Contract.model_validate({"prompt_tokens": 16, "output_tokens": TOKENS, "rate_rps": rate_rps})
    requests = max(round(rate_rps * seconds / REPLICATES), 90)
    replicates = Replicates.model_validate({"count": REPLICATES, "requests": requests, "warm_up_s": 0.5})
    traces: list[Trace] = []
    under = ("taskset", "-c", str(cores[0]))
    with tempfile.TemporaryDirectory() as name, golden(Path(name), TIMING, seed=seed, under=under) as server:
        plan = LoadPlan(server.base_url, server.model, "chat", stream=True, timeout_s=60.0)
        with LoadSession(Path(name), plan, draw(contract, replicates, seed)) as session:
            with made(noise, hot_loops, cores[1], seed):
                while not session.finished:
                    traces += session.poll(0.2)
                traces += session.poll(0.0)
            summary = session.summary
        truths = server.truths()
    measured = [trace for trace in traces if trace.replicate >= 0]
    _inside(measured, truths, summary, tally)
    _verdicts(traces, truths, summary, Asked.of(contract, replicates), tally)


def hot_loops() -> list[int]:
    """Return the client processes below this one."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "hxp_harness.load.generator" in child.cmdline():
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


def _inside(traces: Sequence[Trace], truths: dict[str, Truth], summary: LoadSummary, tally: Tally) -> None:
    widths = []
    for trace in traces:
        truth = truths.get(trace.request_id)
        both = pair(trace, truth, summary.t0_monotonic_s) if trace.ok and truth else None
        tally.requests += 1
        if both is None:
            tally.failed += 1
            continue
        tally.inside += bool((both.observed.distance(both.true) <= SLACK_S).all())
        widths.append(float(both.observed.hi[0] - both.observed.lo[0]))
    lags = [trace.sent_s - trace.intended_s for trace in traces if trace.sent_s is not None]
    tally.widest_s = max(tally.widest_s, statistics(widths).get("p99", 0.0))
    tally.send_lag_s = max(tally.send_lag_s, statistics(lags).get("p99", 0.0))


def _verdicts(
    traces: Sequence[Trace], truths: dict[str, Truth], summary: LoadSummary, asked: Asked, tally: Tally
) -> None:
    """Judge with a limit over and one under the server's true p95; count what was said, and what was wrong."""
    ids = {trace.request_id for trace in traces if trace.replicate >= 0}
    late_s = [event.lo_s - event.due_s for name, truth in truths.items() if name in ids for event in truth.events]
    if statistics(late_s)["p99"] > GOLDEN_LATE_S:
        tally.spoilt += 1
        return
    true_s = sorted(truth.events[-1].hi_s - truth.arrived_s for name, truth in truths.items() if name in ids)
    p95_s = true_s[int(0.95 * len(true_s))]
    facts = RunFacts(asked, Certified(ok=True), summary)
    table = TraceTable.from_traces(traces)
    for side, share in (("over", 1 + MARGIN), ("under", 1 - MARGIN)):
        gates = parse_gates((f"e2e p95 <= {p95_s * share * 1e3:.3f} ms",))
        verdict = judge(table, gates, facts)
        said = verdict.outcome.value
        tally.verdicts[f"{said}, limit {side} the truth"] += 1
        if (side, said) in WRONG:
            tally.wrong.append("; ".join((*verdict.reasons, *(gate.sentence for gate in verdict.gates))))
            say(f"wrong: {said} with the limit {side} the truth: {tally.wrong[-1]}")


def peer_run(name: str, noise: Noise, rate_rps: float, seconds: float, folder: Path, seed: int) -> Outcome:
    """Run one of the tools under the same noise."""
    peer = next(peer for peer in PEERS if peer.name == name)
    job = Job(0, rate_rps, round(rate_rps * seconds / 2) * 2, TOKENS, folder)
    core = max(os.sched_getaffinity(0))
    return measure(peer, job, TIMING, noise=lambda client: made(noise, client, core, seed))


def say(text: str) -> None:
    """Tell what goes on, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def own_table(tallies: dict[str, Tally]) -> str:
    """Return what ours did under each noise."""
    head = ("noise", "requests", "true time inside %", "failed", "width p99 ms", "send_lag p99 ms", "verdicts", "wrong")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, tally in tallies.items():
        share = 100 * tally.inside / max(tally.requests, 1)
        said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(tally.verdicts.items()))
        figures = (f"{share:.3f}", str(tally.failed), f"{tally.widest_s * 1e3:.2f}", f"{tally.send_lag_s * 1e3:.2f}")
        lines.append(f"| {name} | {tally.requests} | {' | '.join(figures)} | {said} | {len(tally.wrong)} |")
    requests = sum(tally.requests for tally in tallies.values())
    inside = sum(tally.inside for tally in tallies.values()) / max(requests, 1)
    wrong, judged = sum(len(t.wrong) for t in tallies.values()), sum(t.verdicts.total() for t in tallies.values())
    met = "met" if inside >= 0.999 and not wrong else "MISSED"
    met = met if judged else "open, since no run could be judged"
    goal = f"Goal, >= 99.9 % inside and no wrong verdict: {inside:.3%} inside, {wrong} of {judged} wrong: {met}"
    spoilt = sum(tally.spoilt for tally in tallies.values())
    left = f"{spoilt} runs were not judged: the golden server itself lost its core and was late." if spoilt else ""
    return "\n".join([*lines, "", goal, left])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="of each noise; default: %(default)s (about 7 minutes)")
    parser.add_argument("--rate", type=float, help="requests/s; default: 200, of peers 25")
    parser.add_argument("--seconds", type=float, help="measured seconds a run; default: 2, of peers 6")
    parser.add_argument("--minutes", type=float, default=25.0, help="begin no run after so long; default: %(default)s")
    parser.add_argument("--peers", action="store_true", help="instead of ours the other tools, once under each noise")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/reference/figures.md too")
    parser.add_argument("--json", type=Path, help="write everything here")
    options = parser.parse_args()
    say(f"load average {os.getloadavg()[0]:.2f}: the noise should be ours alone")
    leave_on_sigterm()
    until_s = time.monotonic() + options.minutes * 60
    if options.peers:
        if missing := make_hub():
            parser.error(missing)
        peers = peer_runs(options.rate or 25.0, options.seconds or 6.0, until_s)
        table = peer_table(peers)
        tree: dict[str, object] = {"peers": [(noise, asdict(outcome)) for noise, outcome in peers]}
    else:
        tallies = own_runs(options.runs, options.rate or 200.0, options.seconds or 2.0, until_s)
        # asdict makes a Counter of pairs out of a Counter
        ours = {name: asdict(tally) | {"verdicts": dict(tally.verdicts)} for name, tally in tallies.items()}
        table, tree = own_table(tallies), {"ours": ours}
    print(table)
    if options.docs:
        put("load_noise_peers" if options.peers else "load_noise", table)
    if options.json:
        options.json.write_text(json.dumps(tree, indent=1, default=str), encoding="utf-8")
    return 0


def own_runs(runs: int, rate_rps: float, seconds: float, until_s: float) -> dict[str, Tally]:
    """Return what became of `runs` runs of ours under each noise, or of as many as begin before `until_s`."""
    cores = sorted(os.sched_getaffinity(0))
    server_core, client_core = cores[0], cores[-1]
    tallies = {noise.name: Tally() for noise in NOISES}
    os.sched_setaffinity(0, {client_core})
    try:
        for number in range(runs):
            for noise in NOISES:
                if time.monotonic() < until_s:
                    say(f"run {number + 1} of {runs}: {noise.name}; {wrong_so_far(tallies)}")
                    one_run(noise, rate_rps, seconds, number + 1, (server_core, client_core), tallies[noise.name])
    except KeyboardInterrupt:
        say("stopped by hand: the table has what was done")
    os.sched_setaffinity(0, set(cores))
    return tallies


def wrong_so_far(tallies: dict[str, Tally]) -> str:
    """Return the count that matters."""
    wrong, judged = sum(len(t.wrong) for t in tallies.values()), sum(t.verdicts.total() for t in tallies.values())
    return f"{wrong} of {judged} verdicts wrong so far"


def peer_runs(rate_rps: float, seconds: float, until_s: float) -> list[tuple[str, Outcome]]:
    """Return what each other tool said under each noise, as far as they begin before `until_s`."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for peer in PEERS:
            for noise in NOISES:
                if time.monotonic() < until_s:
                    say(f"{peer.name}: {noise.name}")
                    found.append((noise.name, peer_run(peer.name, noise, rate_rps, seconds, Path(name), 1)))
    return found


def peer_table(found: Sequence[tuple[str, Outcome]]) -> str:
    """Return by how much each tool's own p99s were off, and whether a limit 10 % over the truth would have failed."""
    head = (
        "tool",
        "noise",
        "TTFT p99 off ms",
        "ITL p99 off ms",
        "E2E p99 off ms",
        "wrong FAIL at 10 % over the true TTFT p99",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for noise, outcome in found:
        off = [outcome.error_s(metric, "p99") for metric in ("ttft", "itl", "e2e")]
        true_s = outcome.true.get("ttft", {}).get("p99")
        wrong = "-" if off[0] is None or true_s is None else ("yes" if off[0] > MARGIN * true_s else "no")
        cells = ["-" if error is None else f"{error * 1e3:+.2f}" for error in off]
        lines.append(f"| {outcome.tool} | {noise} | {' | '.join(cells)} | {wrong} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
