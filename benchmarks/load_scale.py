"""How far several client processes raise the ceiling: `python benchmarks/load_scale.py [--clients 1 2] [--tokens 64]`.

Each number of clients is tried at rising rates, turn about with the others at each rate, against one golden server.
A rate is held when it was sent to within 2 %, the send_lag p99 is within 1 ms and TTFT within 1 ms of the truth at p99.
The golden server needs a core of its own too: on a machine of two cores a second client has none left, and the table
says so by the CPU that each used. About 2 minutes. Nothing here is a test: the machine is shared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.page import put
from hxp_harness.certify.accuracy import metric_errors, pair
from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import GoldenServer, golden
from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.schedule import draw
from hxp_harness.load.session import LoadSession
from hxp_harness.profile import Contract, Replicates
from hxp_harness.trace import Trace

ERROR_S = 0.001
LOST = 0.9  # of the requests sent in time: beyond that a higher rate shows nothing
COLUMNS = (
    "rate rps", "clients", "sent %", "send_lag p99 ms", "TTFT error p99 ms", "busiest CPU %", "us/token", "held",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """What so many clients did at one rate."""

    rate_rps: float
    clients: int
    sent_share: float
    send_lag_s: float
    ttft_error_s: float
    busiest_share: float
    busiest_cpu_s: float
    cpu_per_token_s: float

    @property
    def held(self) -> bool:
        return self.sent_share >= 0.98 and self.send_lag_s <= ERROR_S and self.ttft_error_s <= ERROR_S

    def cells(self) -> list[str]:
        figures = (self.sent_share * 100, self.send_lag_s * 1e3, self.ttft_error_s * 1e3, self.busiest_share * 100)
        told = [f"{figure:.3g}" for figure in (*figures, self.cpu_per_token_s * 1e6)]
        return [f"{self.rate_rps:g}", str(self.clients), *told, "yes" if self.held else "no"]


def measure(server: GoldenServer, folder: Path, rate_rps: float, tokens: int, clients: int, seconds: float) -> Row:
    """Send `seconds` of one rate and hold it against the server's log."""
    contract = Contract.model_validate({"prompt_tokens": 16, "output_tokens": tokens, "rate_rps": rate_rps})
    requests = max(10, round(rate_rps * seconds / 2))
    schedule = draw(contract, Replicates.model_validate({"count": 2, "requests": requests, "warm_up_s": 0.5}), 1)
    plan = LoadPlan(server.base_url, server.model, contract.api, contract.stream, contract.timeout_s)
    traces: list[Trace] = []
    with LoadSession(folder, plan, schedule, clients=clients) as session:
        while not session.finished:
            traces += session.poll(0.5)
        summary = session.summary
    truths = server.truths()
    good = [trace for trace in traces if trace.ok]
    pairs = [one for trace in good if (one := pair(trace, truths[trace.request_id], summary.t0_monotonic_s))]
    sent_s = sorted(trace.sent_s for trace in traces if trace.sent_s is not None)
    intended_s = sorted(trace.intended_s for trace in traces)
    lags_s = sorted((trace.sent_s or 0.0) - trace.intended_s for trace in traces)
    return Row(
        rate_rps,
        clients,
        len(good) / len(schedule) * (intended_s[-1] - intended_s[0]) / (sent_s[-1] - sent_s[0]),
        lags_s[int(0.99 * len(lags_s))],
        metric_errors(pairs)["ttft"].p99_s,
        summary.busiest_cpu_s / max(trace.end_s or 0.0 for trace in traces),
        summary.busiest_cpu_s,
        summary.cpu_s / sum(len(trace.token_lo_s) for trace in good),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0, 1600.0])
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds a rate; default: %(default)s")
    parser.add_argument("--docs", action="store_true", help="write it into docs/reference/figures.md too")
    options = parser.parse_args()
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    show(f"{len(os.sched_getaffinity(0))} cores, answers of {options.tokens} tokens\n")
    show("| " + " | ".join(COLUMNS) + " |")
    show("|" + "---|" * len(COLUMNS))
    rows = climb(options.rates, options.clients, options.tokens, options.seconds, show)
    show("")
    for line in conclusions(rows, options.clients):
        show(line)
    if options.docs:
        put("load_scale", "\n".join(lines))


def climb(
    rates: Sequence[float], clients: Sequence[int], tokens: int, seconds: float, show: Callable[[str], None]
) -> list[Row]:
    """Try each rate with each number of clients; one that sent less than nine tenths is not tried at higher ones."""
    rows: list[Row] = []
    for rate_rps in rates:
        for many in clients:
            if any(row.clients == many and row.sent_share < LOST for row in rows):
                continue
            behaviour = Behaviour(ttft_s=0.1, itl_s=0.4 / tokens)
            with tempfile.TemporaryDirectory() as name, golden(Path(name), behaviour) as server:
                rows.append(measure(server, Path(name) / "load", rate_rps, tokens, many, seconds))
            show("| " + " | ".join(rows[-1].cells()) + " |")
    return rows


def conclusions(rows: Sequence[Row], clients: Sequence[int]) -> list[str]:
    """Return up to where each number of clients held, and what the last number took off the first."""
    ceilings = {
        many: max((row.rate_rps for row in rows if row.clients == many and row.held), default=0) for many in clients
    }
    lines = [f"- {many} clients: held up to {rate_rps:g} rps" for many, rate_rps in ceilings.items()]
    busiest = {(row.rate_rps, row.clients): row.busiest_cpu_s for row in rows}
    first, last = clients[0], clients[-1]
    for rate_rps in sorted({row.rate_rps for row in rows}):
        one, all_ = busiest.get((rate_rps, first)), busiest.get((rate_rps, last))
        if one and all_ and first != last:
            lines.append(f"- {rate_rps:g} rps: the busiest of {last} took {all_ / one:.2f} of the CPU of {first}")
    if ceilings[first]:
        lines.append(f"- ceiling of {last} over that of {first}: {ceilings[last] / ceilings[first]:.2f}")
    return lines


if __name__ == "__main__":
    main()
