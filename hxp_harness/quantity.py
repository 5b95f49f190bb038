"""Fields of strict models that people write: quantities with their unit, in base units inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from hxp_harness.errors import UsageError
from hxp_harness.units import UNITS, example, parse_quantity


class Strict(BaseModel):
    """Unknown keys are errors: a misspelt gate must never be a gate that silently passes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _read(dimension: str) -> BeforeValidator:
    def read(value: object) -> float:
        if isinstance(value, float | int) and not isinstance(value, bool):
            return float(value)  # by the field's own name, which has the unit
        try:
            return parse_quantity(str(value), dimension).value
        except UsageError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read)


def _write(unit: str) -> PlainSerializer:
    return PlainSerializer(lambda value: f"{value!r} {unit}", return_type=str, when_used="json")


def _shown(dimension: str) -> WithJsonSchema:
    units = "|".join(sorted((unit for unit, (kind, _) in UNITS.items() if kind == dimension), key=len, reverse=True))
    pattern = rf"^\s*\+?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*({units})\s*$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example(dimension)]})


Seconds = Annotated[float, _read("time"), _write("s"), _shown("time")]
Rps = Annotated[float, _read("rate"), _write("rps"), _shown("rate")]


def with_units(**examples: str) -> Callable[[object], object]:
    """Refuse a bare number under a key of `examples`, which names no unit: 500 could be ms as well as s.

    The value of each key is the unit that the message shows. A list is looked through.
    """

    def check(raw: object) -> object:
        for key, unit in examples.items():
            value = raw.get(key) if isinstance(raw, dict) else None
            for one in value if isinstance(value, list | tuple) else (value,):
                if isinstance(one, float | int) and not isinstance(one, bool):
                    raise ValueError(f"{key}: {one} has no unit; for example {key}: {one} {unit}")  # noqa: TRY004 - pydantic's way
        return raw

    return check
