"""Quantities as people write them ("2000 ms", "0.1 %"), turned into base units once, at the edge."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hxp_harness.errors import UsageError, nearest

# unit as written -> (dimension, factor to the base unit of the dimension)
UNITS = {
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "us": ("time", 1e-6),
    "min": ("time", 60.0),
    "rps": ("rate", 1.0),
    "tokens/s": ("token_rate", 1.0),
    "%": ("ratio", 1e-2),
    "ratio": ("ratio", 1.0),
    "tokens": ("tokens", 1.0),
}
BASE_UNIT = {"time": "s", "rate": "rps", "token_rate": "tokens/s", "ratio": "ratio", "tokens": "tokens"}

_QUANTITY = re.compile(r"\s*(?P<number>[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)\s*(?P<unit>\S*)\s*")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in the base unit of its dimension (s, rps, tokens/s, ratio, tokens)."""

    value: float
    dimension: str

    @property
    def unit(self) -> str:
        return BASE_UNIT[self.dimension]


def parse_quantity(text: str, dimension: str) -> Quantity:
    """Read `text` as a quantity of `dimension`.

    Raises UsageError when it has no number, no unit, an unknown unit or one of another dimension.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a quantity", hint=f"write a number and a unit: {example(dimension)}")
    unit = match["unit"]
    if unit not in UNITS:
        problem = f"has the unknown unit {unit!r}" if unit else "has no unit"
        fitting = [name for name, (kind, _) in UNITS.items() if kind == dimension]
        known = nearest(unit, fitting)
        hint = known if unit else f"{known}; for example {match['number']} {example(dimension).partition(' ')[2]}"
        raise UsageError(f"{text!r} {problem}", hint=hint)
    found, factor = UNITS[unit]
    if found != dimension:
        raise UsageError(f"{text!r} is a {found}, not a {dimension}", hint=f"for example {example(dimension)}")
    return Quantity(float(match["number"]) * factor, dimension)


def example(dimension: str) -> str:
    """Return a quantity of `dimension` as one would write it."""
    return {
        "time": "2000 ms",
        "rate": "50 rps",
        "token_rate": "3000 tokens/s",
        "ratio": "0.1 %",
        "tokens": "128 tokens",
    }[dimension]


def format_quantity(value: float, dimension: str) -> str:
    """Write a base-unit value in the unit that people read: ms below 10 s, % for ratios."""
    if dimension == "time":
        return f"{value * 1e3:.4g} ms" if abs(value) < 10 else f"{value:.4g} s"
    if dimension == "ratio":
        return f"{value * 1e2:.4g} %"
    return f"{value:.4g} {BASE_UNIT[dimension]}"
