"""Fits the estimated constants of a device to runs that were measured on it. Pure.

A run is served again in virtual time with the arrivals and lengths that it had; the constants are moved until the
quantiles of TTFT, TPOT and end-to-end latency are those measured (least squares of their logarithms, by the simplex of
Nelder and Mead, doi:10.1093/comjnl/7.4.308: the simulation has steps, and no derivative).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import Device
from reference_stack.services.ai_models.scheduler import Limits
from reference_stack.services.ai_models.simulate import Simulated, simulate

Floats = NDArray[np.float64]
QUANTILES = (0.5, 0.95)
# What is fitted, and between which bounds it can be: parts of a peak, and seconds.
FITTED: Mapping[str, tuple[float, float]] = {
    "bandwidth_efficiency": (0.01, 1.0),
    "flops_efficiency": (1e-4, 1.0),
    "step_overhead_s": (1e-5, 0.1),
    "sequence_overhead_s": (1e-7, 0.01),
    "request_overhead_s": (1e-5, 0.2),
    "launch_s": (1e-5, 0.2),
    "api_request_s": (1e-5, 0.1),
    "api_token_s": (1e-6, 0.01),
}
_FIRST_MOVE = 0.4  # of a logarithm


@dataclass(frozen=True, slots=True)
class Observed:
    """One measured run: the engine it was, and per request, in order of arrival, seconds and tokens.

    `judged` marks the requests that count; the others (warm-up) were served with them.
    """

    name: str
    spec: ModelSpec
    limits: Limits
    arrival_s: Floats
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    first_s: Floats
    last_s: Floats
    judged: NDArray[np.bool_]

    @property
    def figures(self) -> dict[str, float]:
        """The measured quantiles in seconds, as in `ttft p95`."""
        return self._quantiles(self.first_s, self.last_s)

    def predicted(self, device: Device) -> dict[str, float]:
        """The same quantiles, were the engine on `device` as our physics has it."""
        asked = zip(self.prompt_tokens.tolist(), self.output_tokens.tolist(), self.arrival_s.tolist(), strict=True)
        served = simulate(self.spec, device, self.limits, (Simulated(*one) for one in asked))
        first_s = np.array([one.tokens_s[0] for one in served])
        return self._quantiles(first_s, np.array([one.tokens_s[-1] for one in served]))

    def _quantiles(self, first_s: Floats, last_s: Floats) -> dict[str, float]:
        several = self.judged & (self.output_tokens > 1)
        values = {
            "ttft": (first_s - self.arrival_s)[self.judged],
            "tpot": ((last_s - first_s)[several]) / (self.output_tokens[several] - 1),
            "e2e": (last_s - self.arrival_s)[self.judged],
        }
        return {
            f"{name} p{q * 100:g}": float(np.quantile(seconds, q))
            for name, seconds in values.items()
            for q in QUANTILES
            if seconds.size
        }


def relative_errors(run: Observed, device: Device) -> dict[str, float]:
    """Return predicted over measured, less one, of each quantile."""
    predicted = run.predicted(device)
    return {name: predicted[name] / measured - 1.0 for name, measured in run.figures.items()}


def fit(
    device: Device, runs: Sequence[Observed], *, evaluations: int = 200, say: Callable[[int, float], None] | None = None
) -> Device:
    """Return `device` with the constants that explain `runs` best, each run counting alike.

    A constant that has no bearing (`launch_s` where no graphs are kept and it is zero) stays. `say` hears after each
    of at most `evaluations` tries how many there were, and the typical relative error of the best.
    """
    names = [name for name in FITTED if getattr(device, name) > 0]
    low, high = (np.log([FITTED[name][side] for name in names]) for side in (0, 1))
    best, tries = np.inf, 0

    def moved(point: Floats) -> Device:
        values = np.exp(np.clip(point, low, high)).tolist()
        return replace(device, **dict(zip(names, values, strict=True)))

    def cost(point: Floats) -> float:
        nonlocal best, tries
        candidate = moved(point)
        squares = [np.mean(np.log1p(list(relative_errors(run, candidate).values())) ** 2) for run in runs]
        squared = float(np.mean(squares)) + float(np.sum((point - np.clip(point, low, high)) ** 2))
        best, tries = min(best, squared), tries + 1
        if say is not None:
            say(tries, float(np.sqrt(best)))
        return squared

    start = np.clip(np.log([getattr(device, name) for name in names]), low, high)
    simplex = np.vstack([start, start + _FIRST_MOVE * np.eye(len(names))])
    found = minimize(
        cost,
        start,
        method="Nelder-Mead",
        options={"maxfev": evaluations, "initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-5},
    )
    return moved(found.x)
