"""What counting in shared memory costs beside the client library's own values, and how long a page of 4 workers takes.

python benchmarks/shared_counts.py
"""

from __future__ import annotations

import statistics
import time
import timeit

from prometheus_client import CollectorRegistry, Counter, Histogram

from reference_stack.workers.board import Board
from reference_stack.workers.counts import count_in
from reference_stack.workers.page import page_of

ROUNDS = 15
CALLS = 20_000
WORKERS = 4


def metrics() -> tuple[Counter, Histogram]:
    """Return a cached child of each kind."""
    registry = CollectorRegistry()
    things = Counter("things", "How many.", ("model",), registry=registry).labels("m")
    took = Histogram("took", "How long.", ("model",), registry=registry).labels("m")
    return things, took


def cost_us(things: Counter, took: Histogram) -> tuple[float, float]:
    """Return what one count and one observation take, in microseconds."""
    return (
        timeit.timeit(things.inc, number=CALLS) / CALLS * 1e6,
        timeit.timeit(lambda: took.observe(0.03), number=CALLS) / CALLS * 1e6,
    )


def main() -> None:
    """Print the ratio of paired rounds, and the time of a page."""
    board = Board(1 + WORKERS)
    own = metrics()
    for worker, slab in enumerate(board.slabs, 1):
        slab.take(worker)
        count_in(slab)
        many = Histogram("many", "How long.", ("model", "route"), registry=CollectorRegistry())
        for label in range(48):
            many.labels(str(label // 6), str(label % 6)).observe(0.1)
    shared = metrics()
    pairs = [(cost_us(*own), cost_us(*shared)) for _ in range(ROUNDS)]
    for which, what in enumerate(("counter", "histogram")):
        ratio = statistics.median(ours[which] / theirs[which] for theirs, ours in pairs)
        took_us = statistics.median(theirs[which] for theirs, _ in pairs)
        print(f"{what}: shared / own = {ratio:.2f} (own {took_us:.2f} us)")
    page, registry, pages_s = page_of(board), CollectorRegistry(), []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        text = page(registry)
        pages_s.append(time.perf_counter() - began_s)
    lines = len(text.splitlines())
    print(f"page of {lines} lines: {pages_s[0] * 1e3:.1f} ms first, then {statistics.median(pages_s[1:]) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
