"""Fits the estimated constants of a device to runs that were measured on it. Pure.

A run is served again in virtual time with the arrivals and lengths that it had; the constants are moved until its
figures are those measured: least squares of their logarithms within bounds (a trust region,
doi:10.1137/S1064827595289108), with slopes over 4 % of a constant, since the simulation has steps.

Of a run in a closed loop the figures are mean TTFT, TPOT and end-to-end latency. So many clients without a pause are
served slots / mean latency requests a second (Little's law), and the mean TPOT is the time of a step at that batch:
such runs tell what the engine can do, at every batch, and an error of a constant is an error of the same size in them.
Of a run in an open loop they are quantiles. Near capacity these multiply an error: at nine tenths of it by ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from reference_stack.services.ai_models.drift import Drift, usual
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
_SLOPE = 0.04  # how far a constant is moved to see what that does, of a logarithm
_ENOUGH = 1e-3  # a step that brings less than this part ends the fit


@dataclass(frozen=True, slots=True)
class Observed:
    """One measured run: the engine it was, and per request, in order of arrival, seconds and tokens.

    `judged` marks the requests that count; the others (warm-up) were served with them. `slots` are the clients of a
    closed loop; 0: an open one. `drift` is how fast the machine was meanwhile, None: as fast as ever.
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
    slots: int = 0
    drift: Drift | None = None

    @property
    def figures(self) -> dict[str, float]:
        """What was measured, in seconds, as in `ttft p95`; of a closed loop, `ttft mean`."""
        return self._figures(self.arrival_s, self.first_s, self.last_s)

    def predicted(self, device: Device) -> dict[str, float]:
        """The same figures, were the engine on `device` as our physics has it, at the speed that the machine had."""
        came_s = self.arrival_s if self.drift is None else self.drift.worked(self.arrival_s)
        asked = zip(self.prompt_tokens.tolist(), self.output_tokens.tolist(), came_s.tolist(), strict=True)
        served = simulate(self.spec, device, self.limits, (Simulated(*one) for one in asked), slots=self.slots)
        times = np.array([(one.arrival_s, one.tokens_s[0], one.tokens_s[-1]) for one in served])
        return self._figures(*(times if self.drift is None else self.drift.moment(times)).T)

    def _figures(self, arrival_s: Floats, first_s: Floats, last_s: Floats) -> dict[str, float]:
        several = self.judged & (self.output_tokens > 1)
        values = {
            "ttft": (first_s - arrival_s)[self.judged],
            "tpot": ((last_s - first_s)[several]) / (self.output_tokens[several] - 1),
            "e2e": (last_s - arrival_s)[self.judged],
        }
        there = {name: seconds for name, seconds in values.items() if seconds.size}
        if self.slots:
            return {f"{name} mean": float(seconds.mean()) for name, seconds in there.items()}
        return {
            f"{name} p{q * 100:g}": float(np.quantile(seconds, q)) for name, seconds in there.items() for q in QUANTILES
        }


def on_one_scale(*kinds: Sequence[Observed]) -> tuple[list[Observed], ...]:
    """Return the same runs, with each drift counted from the usual speed of the machine over all of them."""
    drifts = [run.drift for runs in kinds for run in runs if run.drift is not None]
    if not drifts:
        return tuple(list(runs) for runs in kinds)
    middle = usual(drifts)
    return tuple([replace(run, drift=run.drift and run.drift.relative_to(middle)) for run in runs] for runs in kinds)


def relative_errors(run: Observed, device: Device) -> dict[str, float]:
    """Return predicted over measured, less one, of each figure."""
    predicted = run.predicted(device)
    return {name: predicted[name] / measured - 1.0 for name, measured in run.figures.items()}


def fit(
    device: Device, runs: Sequence[Observed], *, evaluations: int = 200, say: Callable[[int, float], None] | None = None
) -> Device:
    """Return `device` with the constants that explain `runs` best, each run counting alike.

    A constant that has no bearing (`launch_s` where no graphs are kept and it is zero) stays, and with fewer
    `evaluations` than there are constants all do. `say` hears after each try how many there were, and the typical
    relative error of the best.
    """
    names = [name for name in FITTED if getattr(device, name) > 0]
    low, high = (np.log([FITTED[name][side] for name in names]) for side in (0, 1))
    start = np.clip(np.log([getattr(device, name) for name in names]), low, high)
    best, tries = np.inf, 0

    def moved(point: Floats) -> Device:
        # Counted from one: the solver takes its slopes over a part of each value.
        values = np.exp(np.clip(start + point - 1.0, low, high)).tolist()
        return replace(device, **dict(zip(names, values, strict=True)))

    def errors(point: Floats) -> Floats:
        nonlocal best, tries
        candidate, found = moved(point), []
        for run in runs:
            of_run = np.log1p(list(relative_errors(run, candidate).values()))
            found.append(of_run / np.sqrt(of_run.size * len(runs)))
        together = np.concatenate(found)
        best, tries = min(best, float(np.linalg.norm(together))), tries + 1
        if say is not None:
            say(tries, best)
        return together

    rounds = evaluations // (len(names) + 1)  # one try, and one for each slope
    if not rounds:
        return device
    bounds = (low - start + 1.0 - 1e-9, high - start + 1.0 + 1e-9)
    start_point = np.ones(len(names))
    found = least_squares(
        errors, start_point, bounds=bounds, diff_step=[_SLOPE] * len(names), max_nfev=rounds, ftol=_ENOUGH, xtol=_ENOUGH
    )
    return moved(found.x)
