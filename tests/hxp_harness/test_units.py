"""Quantities as people write them become base units once, or are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.errors import UsageError
from hxp_harness.units import BASE_UNIT, UNITS, example, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("2000 ms", "time", 2.0),
        ("2s", "time", 2.0),
        (" 1.5 min ", "time", 90.0),
        ("7e2 us", "time", 7e-4),
        (".5 s", "time", 0.5),
        ("-1 s", "time", -1.0),
        ("50 rps", "rate", 50.0),
        ("0.1 %", "ratio", 0.001),
        ("0.25 ratio", "ratio", 0.25),
        ("3000 tokens/s", "token_rate", 3000.0),
        ("128 tokens", "tokens", 128.0),
    ],
)
def test_a_quantity_is_read(text: str, dimension: str, value: float) -> None:
    """Number and unit, with or without space, become the base unit of the dimension."""
    found = parse_quantity(text, dimension)

    assert found.value == pytest.approx(value)
    assert found.unit == BASE_UNIT[dimension]


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("soon", "'soon' is not a quantity", "2000 ms"),
        ("", "is not a quantity", "2000 ms"),
        ("1,5s", "unknown unit ',5s'", "'s'"),
        ("5", "has no unit", "known: min, ms, s, us; for example 5 ms"),
        ("5 msec", "unknown unit 'msec'", "'ms'"),
        ("5 rps", "is a rate, not a time", "2000 ms"),
        ("nan s", "is not a quantity", "2000 ms"),
    ],
)
def test_what_is_no_quantity_is_refused(text: str, says: str, hint: str) -> None:
    """A missing number or unit, a comma or another dimension are usage errors with an example or the nearest unit."""
    with pytest.raises(UsageError) as refusal:
        parse_quantity(text, "time")

    assert says in refusal.value.message
    assert hint in refusal.value.hint


@given(st.floats(1e-3, 1e6), st.sampled_from(sorted(UNITS)))
def test_units_scale(number: float, unit: str) -> None:
    """Whatever is written in a unit is that number times the unit."""
    dimension, factor = UNITS[unit]

    assert parse_quantity(f"{number!r} {unit}", dimension).value == pytest.approx(number * factor)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.0234, "time", "23.4 ms"),
        (9.99, "time", "9990 ms"),
        (12.3456, "time", "12.35 s"),
        (0.001, "ratio", "0.1 %"),
        (49.98, "rate", "49.98 rps"),
        (3181.4, "token_rate", "3181 tokens/s"),
        (64.0, "tokens", "64 tokens"),
    ],
)
def test_quantities_are_written_for_people(value: float, dimension: str, text: str) -> None:
    """Short times in ms, ratios in percent, four digits."""
    assert format_quantity(value, dimension) == text


@pytest.mark.parametrize("dimension", sorted(BASE_UNIT))
def test_examples_are_right(dimension: str) -> None:
    """What a hint shows can be typed."""
    assert parse_quantity(example(dimension), dimension).dimension == dimension
