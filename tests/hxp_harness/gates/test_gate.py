"""Gates read as engineers write them, and refused with a finger on the spot."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hxp_harness.errors import UsageError
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import STATISTICS, Gate, check_supported, demands
from hxp_harness.gates.grammar import parse_gate, parse_gates
from hxp_harness.metrics.definitions import METRICS, Kind
from hxp_harness.profile import Contract, Replicates
from hxp_harness.units import UNITS


@pytest.mark.parametrize(
    ("text", "metric", "statistic", "operator", "limit"),
    [
        ("e2e p95 <= 2000 ms", "e2e", "p95", "<=", 2.0),
        ("error_rate <= 0.1 %", "error_rate", "", "<=", 0.001),
        ("throughput >= 50 rps", "throughput", "", ">=", 50.0),
        ("goodput >= 99 %", "goodput", "", ">=", 0.99),
        ("ttft p99 < 300 ms", "ttft", "p99", "<", 0.3),
        ("itl mean <= 40 ms", "itl", "mean", "<=", 0.04),
        ("tpot p99.9 <= .5 s", "tpot", "p99.9", "<=", 0.5),
        ("output_throughput > 3e3 tokens/s", "output_throughput", "", ">", 3000.0),
        ("output_tokens mean >= 60 tokens", "output_tokens", "mean", ">=", 60.0),
        ("  e2e\tp50<=1min ", "e2e", "p50", "<=", 60.0),
    ],
)
def test_a_gate_is_read(text: str, metric: str, statistic: str, operator: str, limit: float) -> None:
    """The sentences of the documents, with or without spaces, become their parts in base units."""
    gate = parse_gate(text)

    assert (gate.metric, gate.statistic, gate.operator) == (metric, statistic, operator)
    assert gate.limit == pytest.approx(limit)


@st.composite
def sentences(draw: st.DrawFn) -> tuple[str, str, str, float, str]:
    """A gate that is right, in its parts."""
    metric = METRICS[draw(st.sampled_from([name for name, row in METRICS.items() if row.about == "server"]))]
    statistic = draw(st.sampled_from([*STATISTICS, "mean"])) if metric.kind is Kind.SAMPLE else ""
    operator = draw(
        st.sampled_from({"lower": ["<=", "<"], "higher": [">=", ">"], "either": ["<=", "<", ">=", ">"]}[metric.better])
    )
    number = draw(st.floats(1e-3, 0.99) if metric.dimension == "ratio" else st.floats(1e-3, 1e6))
    unit = draw(st.sampled_from([unit for unit, (dimension, _) in UNITS.items() if dimension == metric.dimension]))
    return metric.name, statistic, operator, number, unit


@given(sentences(), st.sampled_from(["", " ", "  "]))
def test_a_gate_reads_back(parts: tuple[str, str, str, float, str], gap: str) -> None:
    """Whatever is right is accepted, and its text reads back as the same gate."""
    metric, statistic, operator, number, unit = parts
    gate = parse_gate(f"{metric} {statistic}{gap}{operator}{gap}{number!r}{gap or ' '}{unit}")

    assert parse_gate(str(gate)) == gate
    assert (gate.metric, gate.statistic, gate.operator) == (metric, statistic, operator)
    assert gate.limit == pytest.approx(number * UNITS[unit][1])
    assert gate.upper == (operator in {"<=", "<"})
    assert gate.strict == (operator in {"<", ">"})


def read(text: str) -> tuple[Gate | None, UsageError | None]:
    try:
        return parse_gate(text), None
    except UsageError as refusal:
        return None, refusal


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes anything but a gate or a usage error with a hint."""
    gate, refusal = read(text)

    assert gate is not None or (refusal is not None and refusal.hint)


@given(sentences(), st.integers(0, 60), st.characters())
def test_a_slip_is_read_or_refused(parts: tuple[str, str, str, float, str], at: int, letter: str) -> None:
    """A right sentence with one letter changed is read or refused, and what is refused has a finger on a column."""
    text = "{} {} {} {!r} {}".format(*parts)
    assume(at < len(text))
    _, refusal = read(text[:at] + letter + text[at + 1 :])

    assert refusal is None or refusal.message.splitlines()[-1].strip() == "^"


@pytest.mark.parametrize(
    ("text", "column", "says", "hint"),
    [
        ("", 0, "expected a metric", "e2e p95"),
        ("e2 p95 <= 3 s", 0, "unknown metric 'e2'", "'e2e'"),
        ("latency p95 <= 3 s", 0, "unknown metric 'latency'", "e2e"),
        ("send_lag p99 <= 3 ms", 0, "about the harness", "checked in every run"),
        ("e2e <= 3 s", 4, "expected a statistic", "e2e p95 <= 2000 ms"),
        ("e2e p9 <= 3 s", 4, "unknown statistic 'p9'", "'p9"),
        ("e2e p100 <= 3 s", 4, "unknown statistic 'p100'", "p"),
        ("e2e avg <= 3 s", 4, "unknown statistic 'avg'", "mean"),
        ("error_rate p95 <= 1 %", 11, "is one number", "error_rate <="),
        ("throughput 50 rps", 11, "is one number", "throughput >="),
        ("throughput", 10, "expected an operator", "throughput >="),
        ("e2e p95 3 s", 8, "expected one of <=, <", "e2e p95 <="),
        ("e2e p95 =< 3 s", 8, "unknown operator '=<'", "'<='"),
        ("e2e p95 ≤ 3 s", 8, "unknown operator", "'<='"),
        ("goodput => 99 %", 8, "unknown operator '=>'", "'>='"),
        ("goodput !> 99 %", 8, "unknown operator '!>'", "'>='"),
        ("e2e p95 >= 3 s", 8, "better when lower", "'<='"),
        ("throughput <= 3 rps", 11, "better when higher", "'>='"),
        ("e2e p95 <= s", 11, "expected a number", "2000 ms"),
        ("e2e p95 <= 3", 12, "expected a unit", "ms"),
        ("e2e p95 <= 3 msec", 13, "unknown unit 'msec'", "'ms'"),
        ("e2e p95 <= 3 rps", 13, "'rps' is no unit of e2e", "ms"),
        ("e2e p95 <= 3 s or so", 15, "expected nothing more", "one gate a line"),
        ("e2e p95 <= -3 s", 11, "above 0", "e2e p95"),
        ("error_rate <= 0 %", 14, "perfection", "error_rate"),
        ("goodput >= 100 %", 11, "perfection", "goodput >= 99 %"),
        ("goodput >= 101 %", 11, "between 0 % and 100 %", "goodput"),
    ],
)
def test_what_is_wrong_is_shown(text: str, column: int, says: str, hint: str) -> None:
    """A refusal says what is wrong, points at its column, and names the nearest right spelling; exit code 2."""
    with pytest.raises(UsageError) as refusal:
        parse_gate(text)

    lines = refusal.value.message.splitlines()
    assert says in lines[0]
    assert lines[1] == f"  {text}"
    assert lines[2] == " " * (column + 2) + "^"
    assert hint in refusal.value.hint
    assert refusal.value.exit_code == 2


def test_errors_are_always_gated() -> None:
    """A profile without a gate on errors gets one, so that errors never buy a PASS; one that has it keeps its own."""
    assert [str(gate) for gate in parse_gates(["e2e p95 <= 2 s"])] == ["e2e p95 <= 2 s", "error_rate <= 0.1 %"]
    assert [str(gate) for gate in parse_gates(["error_rate <= 1 %"])] == ["error_rate <= 1 %"]


def test_one_limit_for_one_thing() -> None:
    """Two limits on the same statistic contradict each other and are refused, on both sides of a length they do not."""
    with pytest.raises(UsageError, match="two gates"):
        parse_gates(["e2e p95 <= 2 s", "e2e p95 < 3 s"])
    assert len(parse_gates(["output_tokens mean >= 60 tokens", "output_tokens mean <= 70 tokens"])) == 3


def test_demands_are_the_latency_gates() -> None:
    """Goodput counts requests under the limits of all latency gates and no others."""
    gates = parse_gates(["e2e p95 <= 2 s", "ttft p99 < 300 ms", "throughput >= 5 rps", "goodput >= 95 %"])

    assert [(demand.metric, demand.limit, demand.strict) for demand in demands(gates)] == [
        ("e2e", 2.0, False),
        ("ttft", 0.3, True),
    ]


def contract(**changes: object) -> Contract:
    return Contract.model_validate({"prompt_tokens": 10, "output_tokens": 5, "rate": "10 rps"} | changes)


def replicates(requests: int) -> Replicates:
    return Replicates.model_validate({"requests": requests})


@pytest.mark.parametrize(
    ("text", "requests", "enough"),
    [
        ("e2e p95 <= 2 s", 89, False),
        ("e2e p95 <= 2 s", 90, True),
        ("e2e p99 <= 2 s", 458, False),
        ("e2e p99 <= 2 s", 459, True),
        ("itl p99 <= 2 s", 114, False),
        ("itl p99 <= 2 s", 115, True),
        ("e2e mean <= 2 s", 10, True),
    ],
)
def test_a_percentile_needs_samples(text: str, requests: int, *, enough: bool) -> None:
    """A percentile that the replicates cannot tell is refused before anything starts; itl has four gaps a request."""
    if enough:
        check_supported(parse_gate(text), Asked.of(contract(), replicates(requests)))
    else:
        with pytest.raises(UsageError, match="samples a replicate cannot tell"):
            check_supported(parse_gate(text), Asked.of(contract(), replicates(requests)))


def test_the_hint_names_what_can_be_told() -> None:
    """Too few samples for p99 may do for p95; too few for anything ask for more."""
    with pytest.raises(UsageError, match="100 samples can tell p95"):
        check_supported(parse_gate("e2e p99 <= 2 s"), Asked.of(contract(), replicates(100)))
    with pytest.raises(UsageError, match=r"set replicates\.requests \(--requests\) to 459"):
        check_supported(parse_gate("itl p99 <= 2 s"), Asked.of(contract(output_tokens=1), replicates(100)))


@pytest.mark.parametrize("text", ["tpot p95 <= 2 s", "itl p50 <= 2 s"])
def test_pace_needs_streaming(text: str) -> None:
    """A gate on the pace of tokens is refused where nothing streams."""
    with pytest.raises(UsageError, match="undefined without streaming"):
        check_supported(parse_gate(text), Asked.of(contract(stream=False), replicates(2000)))


@pytest.mark.parametrize("text", ["throughput >= 11 rps", "output_throughput >= 51 tokens/s"])
def test_more_than_is_offered_cannot_be_shown(text: str) -> None:
    """A rate above the contract's own can never be met by an open loop, and is refused."""
    with pytest.raises(UsageError, match="the contract offers only"):
        check_supported(parse_gate(text), Asked.of(contract(), replicates(2000)))


def test_the_offered_rate_can_be_shown() -> None:
    """A gate at the contract's own rate is allowed."""
    check_supported(parse_gate("throughput >= 10 rps"), Asked.of(contract(), replicates(2000)))
    check_supported(parse_gate("output_throughput >= 50 tokens/s"), Asked.of(contract(), replicates(2000)))
