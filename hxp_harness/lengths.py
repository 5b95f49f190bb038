"""How lengths vary about the contract's mean, and where prompts come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hxp_harness.quantity import Strict

MOST_TOKENS = 10_000_000


class Uniform(Strict):
    """Every whole number from one to the other is as likely; their mean is the contract's."""

    kind: Literal["uniform"] = "uniform"
    least: int = Field(alias="from", ge=1)
    most: int = Field(alias="to", le=MOST_TOKENS)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.most < self.least:
            raise ValueError(f"from: {self.least} is above to: {self.most}")
        return self


class Normal(Strict):
    """Normal with the contract's mean; what falls below 1 or above `most` is drawn again."""

    kind: Literal["normal"] = "normal"
    sd: float = Field(gt=0)
    most: int = Field(alias="at_most", default=MOST_TOKENS, ge=1, le=MOST_TOKENS)


class Lognormal(Strict):
    """Lognormal with the contract's mean and this standard deviation, both in tokens; bounded as Normal is."""

    kind: Literal["lognormal"] = "lognormal"
    sd: float = Field(gt=0)
    most: int = Field(alias="at_most", default=MOST_TOKENS, ge=1, le=MOST_TOKENS)


class Empirical(Strict):
    """Drawn with replacement from a file: one length a line."""

    kind: Literal["empirical"] = "empirical"
    file: Path


class Natural(Strict):
    """The model ends its answer by itself, after `most` tokens at the latest; the contract's mean is checked."""

    kind: Literal["natural"] = "natural"
    most: int = Field(alias="at_most", ge=1, le=MOST_TOKENS)


class Prefix(Strict):
    """The first `tokens` tokens of every prompt are one of `groups` beginnings, drawn evenly."""

    tokens: int = Field(ge=1)
    groups: int = Field(default=1, ge=1)


class Prompts(Strict):
    """Texts from a file instead of our words: ShareGPT's JSON, or JSON lines."""

    file: Path


LENGTH_KINDS: dict[str, type[Strict]] = {
    "uniform": Uniform,
    "normal": Normal,
    "lognormal": Lognormal,
    "empirical": Empirical,
    "natural": Natural,
}
PromptLengths = Annotated[Uniform | Normal | Lognormal | Empirical, Field(discriminator="kind")]
OutputLengths = Annotated[Uniform | Normal | Lognormal | Empirical | Natural, Field(discriminator="kind")]
