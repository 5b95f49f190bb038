"""What the judge is told beside the traces: the contract, the instrument's certificate, what load and server said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hxp_harness.gates.canary import CanaryAnswers
from hxp_harness.load.plan import LoadSummary
from hxp_harness.metrics.scrape import Scrape

if TYPE_CHECKING:  # pydantic costs a quarter of a second that re-judging a stored run does not have
    from hxp_harness.profile import Contract, Replicates


@dataclass(frozen=True, slots=True)
class Asked:
    """The contract in numbers: what each replicate was to send."""

    rate_rps: float
    prompt_tokens: float  # mean length, what earlier turns of a session add included
    output_tokens: int
    replicates: int
    requests: int  # measured requests of one replicate
    stream: bool = True
    cache: str = "cold"
    shared: float = 0.0  # share of prompt tokens that are a common beginning
    open_loop: bool = True  # False: sending waits for answers, so that the rate is the target's doing

    def offered(self, *, tokens: bool) -> float:
        """Return what the schedule offers a second, in requests or output tokens; infinite without a schedule."""
        if not self.open_loop:
            return math.inf
        return self.rate_rps * (self.output_tokens if tokens else 1)

    @classmethod
    def of(cls, contract: Contract, replicates: Replicates) -> Asked:
        """Take the numbers from a profile's contract."""
        return cls(
            rate_rps=contract.rate_rps,
            prompt_tokens=whole_prompt(contract.prompt_tokens, contract.output_tokens, contract.turns),
            output_tokens=contract.output_tokens,
            replicates=replicates.count,
            requests=replicates.requests,
            stream=contract.stream,
            cache=contract.cache,
            shared=contract.prefix.tokens / contract.prompt_tokens if contract.prefix else 0.0,
            open_loop=contract.open_loop,
        )


def whole_prompt(prompt_tokens: int, output_tokens: int, turns: int) -> float:
    """Return the mean length of a prompt when each of `turns` carries the prompts and answers of those before it."""
    return prompt_tokens * (turns + 1) / 2 + output_tokens * (turns - 1) / 2


@dataclass(frozen=True, slots=True)
class Certified:
    """What the certificate says: `ok`, or the reasons why the instrument cannot judge."""

    ok: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Everything else that a verdict needs. None: that source was not there, and what it would tell is not proven."""

    asked: Asked
    certified: Certified | None = None
    load: LoadSummary | None = None
    before: Scrape | None = None  # the target's counters before the first request
    after: Scrape | None = None
    interrupted: bool = False  # stopped by a person or a signal, not by the verdict
    canary: CanaryAnswers | None = None
    budget_minutes: float | None = None  # set when the time that the run was allowed ended it
