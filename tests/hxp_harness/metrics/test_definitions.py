"""Each metric against numbers computed by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from hxp_harness.metrics.definitions import METRICS, Demand, good, rate, window
from hxp_harness.metrics.table import TraceTable
from hxp_harness.trace import ErrorKind, Trace
from hxp_harness.units import BASE_UNIT

MakeTrace = Callable[..., Trace]


def bounds(name: str, *traces: Trace, stream: bool = True) -> tuple[list[float], list[float], int]:
    sample = METRICS[name].values(TraceTable.from_traces(traces, stream=stream))
    return sample.lo.tolist(), sample.hi.tolist(), sample.infinite


# due at 2 s, sent at 2.001 s, tokens at 2.5 s, somewhere in 2.6-2.7 s, and 2.9 s
TOKENS = (0.5, (0.6, 0.7), 0.9)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("e2e", 0.9),
        ("ttft", 0.5),
        ("e2e_service", 0.899),
        ("ttft_service", 0.499),
        ("tpot", 0.2),
        ("send_lag", 0.001),
        ("read_lag", 0.0),
        ("error_rate", 0.0),
        ("goodput", 1.0),
        ("throughput", 1.0),
        ("output_throughput", 3.0),
        ("sent_ratio", 1.0),
        ("prompt_tokens", 10.0),
        ("output_tokens", 3.0),
    ],
)
def test_one_request(trace: MakeTrace, name: str, expected: float) -> None:
    """Each metric of a single known request is what a pencil says; where both ends are known they agree."""
    lo, hi, infinite = bounds(name, trace(due=2.0, tokens=TOKENS))

    assert infinite == 0
    assert lo == pytest.approx([expected])
    assert hi == pytest.approx([expected])


def test_itl_is_every_gap(trace: MakeTrace) -> None:
    """An arrival known only within 100 ms makes both its gaps so uncertain."""
    lo, hi, _ = bounds("itl", trace(due=2.0, tokens=TOKENS))

    assert lo == pytest.approx([0.1, 0.2], abs=1e-6)
    assert hi == pytest.approx([0.2, 0.3], abs=1e-6)


def test_uncertain_ends_make_uncertain_latencies(trace: MakeTrace) -> None:
    """Bounds of the first and last arrival are carried into ttft, e2e and tpot."""
    one = trace(tokens=((0.4, 0.5), (0.8, 1.0)))

    for name, least, most in (("ttft", 0.4, 0.5), ("e2e", 0.8, 1.0), ("tpot", 0.3, 0.6)):
        lo, hi, _ = bounds(name, one)
        assert lo == pytest.approx([least])
        assert hi == pytest.approx([most])


@pytest.mark.parametrize("name", ["e2e", "ttft", "e2e_service", "ttft_service", "tpot"])
@pytest.mark.parametrize("error", [ErrorKind.TRUNCATED, ErrorKind.TIMEOUT, ErrorKind.NOT_SENT])
def test_a_failure_is_infinitely_late(trace: MakeTrace, name: str, error: ErrorKind) -> None:
    """A failed or truncated request counts as infinite, even when its tokens came early."""
    lo, _, infinite = bounds(name, trace(0), trace(1, error=error))

    assert len(lo) == 1
    assert infinite == 1


def test_a_failure_owes_all_its_gaps(trace: MakeTrace) -> None:
    """In itl a failed request weighs as much as a whole answer, or long answers would thin failures out."""
    lo, _, infinite = bounds("itl", trace(0, tokens=(0.1, 0.2)), trace(1, error=ErrorKind.RESET, asked=64))

    assert len(lo) == 1
    assert infinite == 63


def test_an_answer_without_any_token_is_late(trace: MakeTrace) -> None:
    """A complete stream that carried no token has no first token: it is never a fast one."""
    assert bounds("ttft", trace(tokens=())) == ([], [], 1)


def test_tpot_needs_two_tokens(trace: MakeTrace) -> None:
    """One token has no time between tokens: it is left out, not counted as zero."""
    assert bounds("tpot", trace(tokens=(0.5,))) == ([], [], 0)


def test_tokens_are_counted_by_usage(trace: MakeTrace) -> None:
    """Chunks are not tokens: three tokens in two chunks are three."""
    assert bounds("tpot", trace(tokens=(0.5, 0.9), usage=3))[0] == pytest.approx([0.2])
    assert bounds("output_tokens", trace(tokens=(0.5, 0.9), usage=3))[0] == [3.0]


@pytest.mark.parametrize("name", ["tpot", "itl"])
def test_no_time_between_tokens_without_streaming(trace: MakeTrace, name: str) -> None:
    """Without streaming all tokens come at once, which says nothing about their pace."""
    assert bounds(name, trace(tokens=(0.5,), usage=3), stream=False) == ([], [], 0)


def test_without_streaming_first_is_last(trace: MakeTrace) -> None:
    """Without streaming the end of the body is first and last token."""
    one = trace(tokens=(0.5,), usage=3)

    assert bounds("ttft", one, stream=False) == bounds("e2e", one, stream=False)


def test_error_rate_is_of_all_attempted(trace: MakeTrace) -> None:
    """Requests that were never sent were attempted too."""
    lo, _, _ = bounds("error_rate", trace(0), trace(1, error=ErrorKind.NOT_SENT, sent=False), trace(2), trace(3))

    assert np.mean(lo) == 0.25


def test_sent_ratio_counts_what_was_due(trace: MakeTrace) -> None:
    """A request that was due and never sent lowers the ratio."""
    assert np.mean(bounds("sent_ratio", trace(0), trace(1, error=ErrorKind.NOT_SENT, sent=False))[0]) == 0.5


def test_goodput_needs_every_demand(trace: MakeTrace) -> None:
    """A request is good only if it succeeded and met every latency limit; of all attempted."""
    table = TraceTable.from_traces(
        [
            trace(0, tokens=(0.1, 0.5)),
            trace(1, tokens=(0.4, 0.5)),  # first token late
            trace(2, tokens=(0.1, 0.9)),  # end late
            trace(3, tokens=(0.1, 0.5), error=ErrorKind.STREAM_ERROR),
        ]
    )

    sample = good(table, [Demand("ttft", 0.2), Demand("e2e", 0.6)])

    assert sample.lo.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert sample.hi.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_goodput_knows_what_it_does_not_know(trace: MakeTrace) -> None:
    """A first token somewhere around the limit is possibly good and not surely."""
    sample = good(TraceTable.from_traces([trace(tokens=((0.1, 0.3), 0.5))]), [Demand("ttft", 0.2)])

    assert (sample.lo.tolist(), sample.hi.tolist()) == ([0.0], [1.0])


def test_goodput_at_the_limit(trace: MakeTrace) -> None:
    """At the limit is good for <= and not for <."""
    table = TraceTable.from_traces([trace(tokens=(0.25, 0.5))])

    assert good(table, [Demand("e2e", 0.5)]).lo.tolist() == [1.0]
    assert good(table, [Demand("e2e", 0.5, strict=True)]).hi.tolist() == [0.0]


@pytest.mark.parametrize(
    ("demand", "met"),
    [
        (Demand("tpot", 0.21), 1.0),
        (Demand("tpot", 0.19), 0.0),
        (Demand("itl", 0.21), 1.0),
        (Demand("itl", 0.19), 0.0),
        (Demand("ttft_service", 0.4995), 1.0),
        (Demand("e2e_service", 0.8985), 0.0),
    ],
)
def test_goodput_by_other_latencies(trace: MakeTrace, demand: Demand, met: float) -> None:
    """Every latency can be demanded of a single request; of itl, its mean gap."""
    assert good(TraceTable.from_traces([trace(tokens=(0.5, 0.9), usage=3)]), [Demand("tpot", 0.21)]).lo.tolist() == [
        1.0
    ]
    assert good(TraceTable.from_traces([trace(tokens=TOKENS)]), [demand]).lo.tolist() == [met]


def test_goodput_does_not_demand_the_undefined(trace: MakeTrace) -> None:
    """An answer of one token has no tpot to be too slow."""
    assert good(TraceTable.from_traces([trace(tokens=(0.5,))]), [Demand("tpot", 0.1)]).lo.tolist() == [1.0]


def test_rates_count_what_ends_in_the_window(trace: MakeTrace) -> None:
    """Throughput counts requests that end in the window, begun before it or not; what drains after it, not."""
    table = TraceTable.from_traces(
        [
            trace(0, 9.0, (0.5, 1.5), replicate=-1),  # ends at 10.5: counts
            trace(1, 10.0, (0.2, 0.3)),
            trace(2, 11.0, (0.2, 0.3), error=ErrorKind.HTTP),
            trace(3, 12.0, (0.2, 0.3), usage=5),
            trace(4, 13.0, (0.5, 5.0)),  # ends at 18: drains
        ]
    )

    span = window(table, 0)

    assert (span.start_s, span.end_s, span.offered, span.length_s) == (10.0, 14.0, 4, 4.0)
    assert rate(table, METRICS["throughput"], span) == pytest.approx(3 / 4)
    assert rate(table, METRICS["output_throughput"], span) == pytest.approx((2 + 2 + 5) / 4)


def test_a_window_of_one_request_has_no_rate(trace: MakeTrace) -> None:
    """One request makes no window, and no division by zero."""
    table = TraceTable.from_traces([trace()])

    assert rate(table, METRICS["throughput"], window(table, 0)) == 0.0


def test_every_row_is_whole() -> None:
    """Each metric stands under its own name, with a known dimension and a sentence."""
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.dimension in BASE_UNIT
        assert metric.says
        assert metric.better in {"lower", "higher", "either"}
    assert {name for name, metric in METRICS.items() if metric.about == "harness"} == {
        "send_lag",
        "read_lag",
        "sent_ratio",
    }
