"""The contract of a profile: what is asked of the target, when, and how long."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from hxp_harness.arrivals import Arrival, Closed, Poisson, Ramp, Step
from hxp_harness.lengths import Natural, OutputLengths, Prefix, PromptLengths, Prompts, Uniform
from hxp_harness.quantity import Rps, Seconds, Strict, with_units

MEAN_SLACK = 0.01  # the mean of a pattern may be off the contract's rate by this share


class Sessions(Strict):
    """Conversations: each of `turns` requests carries all before it, and follows the last answer after thinking."""

    turns: int = Field(ge=2, le=1000)
    think_s: Seconds = Field(alias="think", ge=0)  # mean of an exponential draw

    _units = model_validator(mode="before")(with_units(think="s"))


class Contract(Strict):
    """What is asked of the target: lengths in tokens, rate in requests/s, timeout in seconds."""

    api: Literal["chat", "completions"] = "chat"
    stream: bool = True
    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    arrival: Arrival = Poisson()
    rate_rps: Rps = Field(alias="rate", gt=0)
    sessions: Sessions | None = None
    prompt_lengths: PromptLengths | None = None
    output_lengths: OutputLengths | None = None
    prefix: Prefix | None = None
    prompts: Prompts | None = None
    cache: Literal["cold", "any"] = "cold"  # cold: fresh prompts, no request finds its prefix cached
    isolation: Literal["alone"] = "alone"
    timeout_s: Seconds = Field(alias="timeout", default=30.0, gt=0)
    temperature: float = Field(default=0.0, ge=0)

    _units = model_validator(mode="before")(with_units(rate="rps", timeout="s"))

    @model_validator(mode="after")
    def _mean(self) -> Self:
        """A pattern has the mean rate that the contract names."""
        if isinstance(self.arrival, Ramp | Step):
            pieces = self.arrival.corners_rps
            mean_rps = math.fsum((first + last) / 2 for first, last in pieces) / len(pieces)
            if not math.isclose(mean_rps, self.rate_rps, rel_tol=MEAN_SLACK):
                raise ValueError(f"the mean of this {self.arrival.kind} is {mean_rps:g} rps: rate: {mean_rps:g} rps")
        return self

    @model_validator(mode="after")
    def _talk(self) -> Self:
        """Sessions need an API with messages, arrivals of their own, and a cache that may remember."""
        if self.sessions is None:
            return self
        if self.api != "chat":
            raise ValueError("sessions need api: chat, which has messages")
        if isinstance(self.arrival, Closed):
            raise ValueError("sessions and arrival closed exclude each other: both wait for answers")  # noqa: TRY004 - pydantic's way
        if self.cache == "cold":
            raise ValueError("sessions repeat their beginning, so they cannot be cold: cache: any")
        return self

    @model_validator(mode="after")
    def _words(self) -> Self:
        """Texts come from a file or are made; a shared beginning is cached, and lies within the prompt."""
        for name, lengths, mean in (
            ("prompt_lengths", self.prompt_lengths, self.prompt_tokens),
            ("output_lengths", self.output_lengths, self.output_tokens),
        ):
            if isinstance(lengths, Uniform) and lengths.least + lengths.most != 2 * mean:
                raise ValueError(f"{name}: the mean of {lengths.least} to {lengths.most} is not {mean}")
        if self.prompts is not None:
            for name in ("prompt_lengths", "prefix", "sessions"):
                if getattr(self, name) is not None:
                    raise ValueError(f"prompts and {name} exclude each other: the file has the texts")
        if self.prefix is not None:
            if self.cache == "cold":
                raise ValueError("a shared prefix is cached after its first use: cache: any")
            if (shared := self.prefix.tokens) >= self.prompt_tokens:
                raise ValueError(f"prefix.tokens: {shared} is no part of {self.prompt_tokens} prompt_tokens")
        return self

    @property
    def varied(self) -> bool:
        """Whether requests differ in their lengths."""
        return any((self.sessions, self.prompt_lengths, self.output_lengths, self.prompts))

    @property
    def natural(self) -> bool:
        """Whether the model ends its answers by itself."""
        return isinstance(self.output_lengths, Natural)

    @property
    def open_loop(self) -> bool:
        """Whether no time of sending depends on an answer."""
        return self.sessions is None and not isinstance(self.arrival, Closed)

    @property
    def concurrency(self) -> int:
        """Slots of a closed loop; 0 without one."""
        return self.arrival.concurrency if isinstance(self.arrival, Closed) else 0

    @property
    def turns(self) -> int:
        return 1 if self.sessions is None else self.sessions.turns

    def at_rate(self, rate_rps: float) -> Contract:
        """Return the contract at another mean rate; a pattern keeps its shape."""
        scale = rate_rps / self.rate_rps
        arrival: Arrival = self.arrival
        if isinstance(arrival, Ramp):
            arrival = Ramp(from_rps=arrival.from_rps * scale, to_rps=arrival.to_rps * scale)
        elif isinstance(arrival, Step):
            arrival = Step(rates_rps=tuple(one * scale for one in arrival.rates_rps))
        return self.model_copy(update={"rate_rps": rate_rps, "arrival": arrival})
