"""What would fit near a contract that a model cannot meet, and the whole prediction in one line. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from reference_stack.services.ai_models.feasibility import (
    Feasibility,
    Fit,
    Term,
    holds,
    limits_of,
    widest_precision,
)
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import Device
from reference_stack.services.ai_models.steady import Steady

_NEAR = 1.02  # a search ends when its bounds are so close


@dataclass(frozen=True, slots=True)
class Nearest:
    """What would fit where the contract does not; each alone, all else as asked. None: nothing of the kind does."""

    rate_rps: float | None = None
    prompt_tokens: int | None = None
    precision: str | None = None


def nearest_fit(spec: ModelSpec, device: Device, found: Feasibility) -> Nearest:
    """Return what is not INFEASIBLE near the contract that was `found` to be what it is, to about 2 %.

    The highest rate; for an INFEASIBLE contract the longest prompt at its rate, too; where the model does not even
    start, a smaller precision.
    """
    if found.term is Term.MEMORY:
        return Nearest(precision=widest_precision(spec, device))
    contract = found.contract
    longest = spec.max_model_len - contract.output_tokens

    def fits(**change: object) -> bool:
        return holds(Steady(spec, device, limits_of(spec, device), contract.model_copy(update=change)))

    def prompt(high: int) -> int | None:
        tokens = _largest(1, high, lambda tokens: fits(prompt_tokens=int(tokens))) if high >= 1 else None
        return None if tokens is None else int(tokens)

    if found.rho is None:
        return Nearest(prompt_tokens=prompt(longest))
    capacity_rps = contract.rate_rps / found.rho
    if found.fit is not Fit.INFEASIBLE:
        return Nearest(_largest(contract.rate_rps, capacity_rps, lambda rps: fits(rate_rps=rps)))
    high_rps = min(contract.rate_rps, capacity_rps)
    rate_rps = _largest(high_rps / 100, high_rps, lambda rps: fits(rate_rps=rps))
    return Nearest(rate_rps, prompt(min(contract.prompt_tokens, longest)))


def sentence(found: Feasibility, nearest: Nearest) -> str:
    """Say the verdict in one line, with the term that binds, the figures and what would fit."""
    c = found.contract
    asked = f"{c.prompt_tokens}/{c.output_tokens} tokens at {c.rate_rps:g} rps"
    said = f"{found.fit}: {found.model} ({found.precision}) on {found.device}, {asked}"
    if found.latency is not None:
        limit = "" if c.limit_s is None else f" against {c.limit_s:g} s"
        said += f": e2e p{c.quantile * 100:g} {found.latency.quantile_s:.2f} s{limit}"
    if found.rho is not None:
        said += f", {found.rho:.0%} of what it can serve"
    said += f"; bound by {found.term}"
    if found.fit is Fit.INFEASIBLE:
        said += f"; {_alternatives(nearest)}"
    return f"{said} (predicted, not measured)"


def _alternatives(nearest: Nearest) -> str:
    offers = []
    if nearest.rate_rps is not None:
        offers.append(f"{nearest.rate_rps:.3g} rps")
    if nearest.prompt_tokens is not None:
        offers.append(f"{nearest.prompt_tokens} tokens in")
    if nearest.precision is not None:
        offers.append(f"{nearest.precision} weights")
    return f"would fit: {' or '.join(offers)}" if offers else "no lower rate or shorter prompt would fit"


def _largest(low: float, high: float, fits: Callable[[float], bool]) -> float | None:
    """Return about the largest value in [low, high] that fits, or None: halved until one does, then bisected."""
    best = high
    while not fits(best):
        if best <= low:
            return None
        high, best = best, max(best / 2, low)
    while high > best * _NEAR:
        middle = math.sqrt(best * high)
        best, high = (middle, high) if fits(middle) else (best, middle)
    return best
