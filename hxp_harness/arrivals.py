"""The arrival processes that a profile can name: when requests are intended to be sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from hxp_harness.quantity import Rps, Seconds, Strict, with_units


class Constant(Strict):
    """One request every 1/rate seconds."""

    kind: Literal["constant"] = "constant"


class Poisson(Strict):
    """Independent exponential gaps."""

    kind: Literal["poisson"] = "poisson"


class Gamma(Strict):
    """Independent gamma gaps; `cv` is their standard deviation over their mean: 1 is Poisson, above it is bursty."""

    kind: Literal["gamma"] = "gamma"
    cv: float = Field(gt=0, le=100)


class Ramp(Strict):
    """Poisson with a rate that goes evenly from one to the other through each window; their mean is the contract's."""

    kind: Literal["ramp"] = "ramp"
    from_rps: Rps = Field(alias="from", gt=0)
    to_rps: Rps = Field(alias="to", gt=0)

    _units = model_validator(mode="before")(with_units(**{"from": "rps", "to": "rps"}))

    @property
    def corners_rps(self) -> tuple[tuple[float, float], ...]:
        """Rates at the beginning and end of each piece; all pieces are equally long."""
        return ((self.from_rps, self.to_rps),)


class Step(Strict):
    """Poisson with one rate after another, each for an equal part of every window; their mean is the contract's."""

    kind: Literal["step"] = "step"
    rates_rps: tuple[Annotated[Rps, Field(gt=0)], ...] = Field(alias="rates", min_length=2)

    _units = model_validator(mode="before")(with_units(rates="rps"))

    @property
    def corners_rps(self) -> tuple[tuple[float, float], ...]:
        """Rates at the beginning and end of each piece; all pieces are equally long."""
        return tuple((rate_rps, rate_rps) for rate_rps in self.rates_rps)


class Replay(Strict):
    """Times from a file, rising, counted from the first: one number of seconds a line, or requests as JSON lines."""

    kind: Literal["replay"] = "replay"
    file: Path


class Closed(Strict):
    """No schedule: `concurrency` slots, each sends its next request when it has its answer, after a think time."""

    kind: Literal["closed"] = "closed"
    concurrency: int = Field(ge=1, le=100_000)
    think_s: Seconds = Field(alias="think", default=0.0, ge=0)  # mean of an exponential draw

    _units = model_validator(mode="before")(with_units(think="s"))


AnyArrival = Constant | Poisson | Gamma | Ramp | Step | Replay | Closed
KINDS: dict[str, type[Strict]] = {
    "constant": Constant,
    "poisson": Poisson,
    "gamma": Gamma,
    "ramp": Ramp,
    "step": Step,
    "replay": Replay,
    "closed": Closed,
}


def _named(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


def _short(value: Strict) -> object:
    """Write a process without parameters as its name."""
    tree = value.model_dump(mode="json", by_alias=True)
    return tree["kind"] if len(tree) == 1 else tree


Arrival = Annotated[
    Annotated[AnyArrival, Field(discriminator="kind")],
    BeforeValidator(_named),
    PlainSerializer(_short, when_used="json"),
]
