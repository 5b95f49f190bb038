"""The record of a comparison, comparison.json, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from hxp_harness.comparison.attribution import Counters, hints
from hxp_harness.comparison.effect import Change, Effect, Figure, compare, outcomes, overall
from hxp_harness.errors import UsageError
from hxp_harness.gates.outcome import Outcome
from hxp_harness.report.files import write_whole
from hxp_harness.target import Evidence
from hxp_harness.units import BASE_UNIT, format_quantity

COMPARISON_FILE = "comparison.json"
BASELINE_FILE = "baseline.json"  # beside a run's record: how it compares with the run of --baseline
_OUTCOMES = {
    Change.REGRESSION: Outcome.FAIL,
    Change.IMPROVEMENT: Outcome.PASS,
    Change.SAME: Outcome.PASS,
    Change.INCONCLUSIVE: Outcome.INCONCLUSIVE,
}
_DIMENSIONS = {unit: dimension for dimension, unit in BASE_UNIT.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that was found. `floor` has what A against itself showed, where that was measured first."""

    schema: int
    title: str
    a: str  # run or target
    b: str
    evidence: Evidence
    margin: float  # smallest ratio that counts, - 1
    effects: tuple[Effect, ...] = ()
    floor: tuple[Effect, ...] = ()
    invalid: tuple[str, ...] = ()  # why nothing may be concluded
    notes: tuple[str, ...] = ()
    counters: Mapping[str, Counters] = field(default_factory=dict)

    @property
    def change(self) -> Change:
        return overall(self.effects)

    @property
    def outcome(self) -> Outcome:
        return Outcome.INVALID if self.invalid else _OUTCOMES[self.change]

    @property
    def word(self) -> str:
        return "INVALID" if self.invalid else self.change.value


def effects_of(a: Mapping[str, Figure], b: Mapping[str, Figure], *, margin: float, paired: bool) -> tuple[Effect, ...]:
    """Return the change of every figure that both have, each called what it is."""
    found = [
        effect
        for name, figure in a.items()
        if name in b and (effect := compare(figure, b[name], margin=margin, paired=paired)) is not None
    ]
    deciding = [one for one in found if one.decides]
    called = dict(zip((one.name for one in deciding), outcomes(deciding), strict=True))
    rest = [one for one in found if not one.decides]
    called |= dict(zip((one.name for one in rest), outcomes(rest), strict=True))
    return tuple(replace(one, outcome=called[one.name]) for one in found)


def headline(record: Comparison) -> str:
    """Return the answer in one sentence."""
    if record.invalid:
        return record.invalid[0]
    deciding = [one for one in record.effects if one.decides]
    telling = [one for one in deciding if one.outcome is record.change]
    if not telling:
        return "Nothing that both have can be compared."
    if record.change is Change.SAME:
        return f"No difference beyond {record.margin:.0%}: {'; '.join(map(sentence, telling))}"
    return " ".join(map(sentence, telling))


def sentence(effect: Effect) -> str:
    """Say one change with its bounds."""
    a, b = (_value(value, effect) for value in (effect.a, effect.b))
    points = effect.unit == "ratio"
    change, low, high = (_change(value, points) for value in (effect.change, effect.low, effect.high))
    return f"{effect.name} went from {a} to {b}: {change}, surely between {low} and {high} (99 % sure of each)."


def story(record: Comparison) -> list[str]:
    """Tell how the answer came about, for people who never took statistics."""
    lines = list(record.invalid[1:])
    if record.effects:
        first = record.effects[0]
        how = (
            f"A and B had the same arrivals and prompts, so each of the {first.units} parts of A was compared with its "
            "like of B: what both have in common cannot be taken for a difference."
            if first.paired
            else f"A and B had other arrivals and prompts, so their parts were compared as two groups of {first.units} "
            "or more: a difference must stand out of the spread of both."
        )
        lines.append(
            f"{how} A change counts as worse or better where chance explains it in less than 1 of 100 comparisons, and "
            f"as no difference where it surely lies within {record.margin:.0%}."
        )
    if record.floor:
        widest = max((one for one in record.floor if one.decides), key=lambda one: one.high - one.low, default=None)
        if widest is not None:
            lines.append(
                f"A against itself, measured first: {sentence(widest)} What is smaller than that could not be seen."
            )
    mine, theirs = record.counters.get("a"), record.counters.get("b")
    if mine is not None and theirs is not None:
        lines += hints(mine, theirs)
    return [*lines, *record.notes]


def write_comparison(folder: Path, record: Comparison, name: str = COMPARISON_FILE) -> Path:
    """Write the record with its outcome, whole or not at all; raise InvalidRun when the disk is full."""
    tree = msgspec.to_builtins(record) | {"verdict": record.outcome.value, "change": record.word}
    return write_whole(folder / name, msgspec.json.format(msgspec.json.encode(tree)).decode() + "\n")


def read_comparison(folder: Path) -> Comparison:
    """Return the record in `folder`; raise UsageError when there is none, or it is damaged."""
    file = folder / COMPARISON_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Comparison)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", hint="hxp compare --out DIR writes it") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{file} is damaged: {error}", hint="compare again") from None


HEAD = ("figure", "outcome", "A", "B", "change", "surely between", "parts", "role")


def cells(effects: Sequence[Effect]) -> list[tuple[str, ...]]:
    """Return the rows of a table of changes."""
    return [
        (
            one.name,
            one.outcome.value,
            _value(one.a, one),
            _value(one.b, one),
            _change(one.change, one.unit == "ratio"),
            f"{_change(one.low, one.unit == 'ratio')} to {_change(one.high, one.unit == 'ratio')}",
            str(one.units),
            "decides" if one.decides else "shown",
        )
        for one in effects
    ]


def _value(value: float, effect: Effect) -> str:
    dimension = _DIMENSIONS.get(effect.unit)
    return format_quantity(value, dimension) if dimension else f"{value:.4g} {effect.unit}"


def _change(value: float, points: bool) -> str:
    return f"{value * 100:+.2g} points" if points else f"{value:+.1%}"
