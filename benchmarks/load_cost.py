"""What our client costs and how exact it is, up to its ceiling: `python benchmarks/load_cost.py [--json FILE]`.

The golden server has one core, the client another. Three curves: over the rate for answers of 1, 64 and 512 tokens,
doubling until a rate is not held (sent to within 2 %, TTFT within 1 ms of the truth at p99); and over the number of
open streams, at one rate with ever slower answers. `inside` is the share of tokens whose true time lies within the
reported interval. `yardstick` is the CPU time of the same work in Python on the client's core just before and after: on
a machine that is half as fast for a while a token costs twice as much. Takes more than five minutes. Nothing here is a
test: run it where nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load.job import statistics
from benchmarks.load.page import put
from hxp_harness.certify.accuracy import metric_errors, pair
from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.schedule import draw
from hxp_harness.load.session import LoadSession
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import Trace
from reference_stack.orchestration.yardstick import read_once

READINGS = 200  # before, and as many after: together some 0.1 s
SLACK_S = 20e-6  # two clocks are brought together
E2E_S = 0.4
MOST_RPS = 6400.0
OPEN_RPS, OPEN_E2E_S = 50.0, (0.4, 2.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One load: `rate_rps` answers of `tokens` tokens that take `e2e_s`. Shares of one core, times in s."""

    rate_rps: float
    tokens: int
    e2e_s: float
    sent_share: float
    failed: int
    cpu_share: float
    cpu_per_token_s: float
    peak_rss_bytes: int
    golden_share: float
    send_lag_p99_s: float
    ttft_error_p99_s: float
    itl_error_p99_s: float
    inside: float
    yardstick_s: float

    @property
    def held(self) -> bool:
        return self.sent_share >= 0.98 and self.ttft_error_p99_s <= 0.001 and not self.failed

    def cells(self) -> list[str]:
        figures = (
            self.rate_rps, self.tokens, self.rate_rps * self.e2e_s, self.sent_share * 100, self.cpu_share * 100,
            self.cpu_per_token_s * 1e6, self.peak_rss_bytes / 1e6, self.golden_share * 100, self.send_lag_p99_s * 1e3,
            self.ttft_error_p99_s * 1e3, self.itl_error_p99_s * 1e3,
        )  # fmt: skip
        held = "yes" if self.held else "no"
        yardstick = f"{self.yardstick_s * 1e6:.0f}"
        return [*(f"{figure:.4g}" for figure in figures), f"{self.inside * 100:.3f}", yardstick, held]


HEAD = (
    "rate rps", "tokens", "open streams", "sent %", "client CPU %", "us/token", "MB", "server CPU %",
    "send_lag p99 ms", "TTFT error p99 ms", "ITL error p99 ms", "inside %", "yardstick us", "held",
)  # fmt: skip


def row(rate_rps: float, tokens: int, seconds: float, e2e_s: float = E2E_S) -> Row:
    """Send one load and hold it against the truth."""
    cores = sorted(os.sched_getaffinity(0))
    ttft_s = e2e_s / 3 if tokens > 1 else e2e_s
    timing = Behaviour(ttft_s=ttft_s, itl_s=(e2e_s - ttft_s) / max(tokens - 1, 1))
    contract = Contract.model_validate({"prompt_tokens": 16, "output_tokens": tokens, "rate_rps": rate_rps})
    requests = max(20, round(rate_rps * seconds / 2))
    replicates = Replicates.model_validate({"count": 2, "requests": requests, "warm_up_s": 0.5})
    traces: list[Trace] = []
    under = ("taskset", "-c", str(cores[0]))
    with tempfile.TemporaryDirectory() as name, golden(Path(name), timing, under=under) as server:
        plan = LoadPlan(server.base_url, server.model, "chat", stream=True, timeout_s=60.0)
        os.sched_setaffinity(0, {cores[-1]})
        readings = [read_once() for _ in range(READINGS)]
        try:
            with LoadSession(Path(name), plan, draw(contract, replicates, 1)) as session:
                while not session.finished:
                    traces += session.poll(1.0)
                traces += session.poll(0.0)
                summary = session.summary
            readings += [read_once() for _ in range(READINGS)]
        finally:
            os.sched_setaffinity(0, set(cores))
        golden_cpu_s, truths = server.cpu_s, server.truths()
    good = [trace for trace in traces if trace.ok]
    pairs = [both for one in good if (both := pair(one, truths[one.request_id], summary.t0_monotonic_s))]
    errors = metric_errors(pairs)
    inside = [bool(near) for each in pairs for near in each.observed.distance(each.true) <= SLACK_S]
    sent_s = sorted(trace.sent_s for trace in traces if trace.sent_s is not None)
    due_s = sorted(trace.intended_s for trace in traces)
    whole_s = max(trace.end_s or 0.0 for trace in traces)
    return Row(
        rate_rps, tokens, e2e_s,
        sent_share=(due_s[-1] - due_s[0]) / (sent_s[-1] - sent_s[0]),
        failed=len(traces) - len(good),
        cpu_share=summary.cpu_s / whole_s,
        cpu_per_token_s=summary.cpu_s / max(sum(len(each.observed.lo) for each in pairs), 1),
        peak_rss_bytes=summary.peak_rss_bytes,
        golden_share=golden_cpu_s / whole_s,
        send_lag_p99_s=statistics([(trace.sent_s or 0.0) - trace.intended_s for trace in good])["p99"],
        ttft_error_p99_s=errors["ttft"].worst_s,
        itl_error_p99_s=errors["itl"].worst_s if "itl" in errors else 0.0,
        inside=sum(inside) / len(inside),
        yardstick_s=statistics([taken_s for _, taken_s in readings])["p50"],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from-rps", type=float, default=50.0, help="where each curve begins; default: %(default)s")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 64, 512], help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds a row; default: %(default)s")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/reference/figures.md too")
    parser.add_argument("--json", type=Path, help="write every row here")
    options = parser.parse_args()
    rows: list[Row] = []
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    print("\n".join(lines), flush=True)

    def show(found: Row) -> Row:
        rows.append(found)
        lines.append("| " + " | ".join(found.cells()) + " |")
        print(lines[-1], flush=True)
        return found

    for tokens in options.tokens:
        rate_rps = options.from_rps / (8 if tokens > 64 else 1)
        while rate_rps <= MOST_RPS:
            say(f"{rate_rps:g} rps, {tokens} tokens")
            if not show(row(rate_rps, tokens, options.seconds)).held:
                break
            rate_rps *= 2
    for e2e_s in OPEN_E2E_S:
        say(f"{OPEN_RPS:g} rps, {OPEN_RPS * e2e_s:g} streams open")
        show(row(OPEN_RPS, 64, options.seconds + e2e_s, e2e_s))
    if options.docs:
        put("load_cost", "\n".join(lines))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in rows], indent=1), encoding="utf-8")


def say(text: str) -> None:
    """Tell what goes on, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
