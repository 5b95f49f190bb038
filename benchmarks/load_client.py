"""What the hot loop costs and how exact it is: `python benchmarks/load_client.py [--rates 10 50 200]`.

Each row is one run against the golden server, whose log is the truth. Nothing here is a test: the machine is shared.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import GoldenServer, golden
from hxp_harness.load.preflight import preflight
from hxp_harness.load.schedule import draw
from hxp_harness.load.session import LoadSession
from hxp_harness.profile import Contract, Replicates
from hxp_harness.target import Target
from hxp_harness.trace import Trace

COLUMNS = (
    "rate rps", "sent rps", "failed", "us/token", "MB", "send_lag p99 ms", "read_lag p99 ms",
    "TTFT error p50 ms", "TTFT error p99 ms", "exact %", "truth inside %",
)  # fmt: skip
SLACK_S = 20e-6  # two clocks are brought together


@dataclass(frozen=True, slots=True)
class Comparison:
    """Reported against true arrivals, s."""

    first_token_errors_s: list[float]
    exact: int
    inside: int
    tokens: int


def compare(traces: Sequence[Trace], server: GoldenServer, t0_s: float) -> Comparison:
    """Hold every reported interval against what the server noted around its own call into the kernel."""
    truths = server.truths()
    errors_s: list[float] = []
    exact = inside = tokens = 0
    for trace in traces:
        arrivals = [event for event in truths[trace.request_id].events for _ in range(event.tokens)]
        bounds = list(zip(trace.token_lo_s, trace.token_hi_s, arrivals, strict=True))
        errors_s.append(t0_s + bounds[0][1] - bounds[0][2].lo_s)
        tokens += len(bounds)
        exact += sum(low_s == high_s for low_s, high_s, _ in bounds)
        inside += sum(
            t0_s + low_s <= event.hi_s + SLACK_S and t0_s + high_s >= event.lo_s - SLACK_S
            for low_s, high_s, event in bounds
        )
    return Comparison(errors_s, exact, inside, tokens)


def quantile_ms(values_s: Sequence[float], q: float) -> str:
    """Return the order statistic of `values_s` at `q`, in ms as text."""
    return f"{sorted(values_s)[min(len(values_s) - 1, int(q * len(values_s)))] * 1e3:.3f}"


def row(rate_rps: float, tokens: int, seconds: float) -> list[str]:
    """Run one rate and return its line of the table."""
    requests = max(10, round(rate_rps * seconds / 2))
    contract = Contract.model_validate({"prompt_tokens": 64, "output_tokens": tokens, "rate_rps": rate_rps})
    replicates = Replicates.model_validate({"count": 2, "requests": requests, "warm_up_s": 1.0})
    traces: list[Trace] = []
    with tempfile.TemporaryDirectory() as name, golden(Path(name), Behaviour(jitter_s=0.002)) as server:
        plan = preflight(Target(server.base_url, server.model), contract)
        with LoadSession(Path(name), plan, draw(contract, replicates, 1)) as session:
            while not session.finished:
                traces += session.poll(1.0)
            summary = session.summary
        good = [trace for trace in traces if trace.ok]
        truth = compare(good, server, summary.t0_monotonic_s)
    sent_s = sorted(trace.sent_s for trace in traces if trace.sent_s is not None)
    return [
        f"{rate_rps:g}",
        f"{(len(sent_s) - 1) / (sent_s[-1] - sent_s[0]):.1f}",
        f"{len(traces) - len(good)}",
        f"{summary.cpu_s / truth.tokens * 1e6:.1f}",
        f"{summary.peak_rss_bytes / 2**20:.0f}",
        quantile_ms([(trace.sent_s or 0.0) - trace.intended_s for trace in good], 0.99),
        quantile_ms([trace.read_lag_s for trace in good], 0.99),
        quantile_ms(truth.first_token_errors_s, 0.5),
        quantile_ms(truth.first_token_errors_s, 0.99),
        f"{100 * truth.exact / truth.tokens:.2f}",
        f"{100 * truth.inside / truth.tokens:.3f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 50.0, 200.0, 400.0])
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured seconds a rate")
    options = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for rate_rps in options.rates:
        print("| " + " | ".join(row(rate_rps, options.tokens, options.seconds)) + " |", flush=True)


if __name__ == "__main__":
    main()
