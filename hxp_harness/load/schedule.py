"""The schedule of a run: every request that will be sent, drawn and written before the first one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hxp_harness.errors import UsageError
from hxp_harness.load.plan import Due

if TYPE_CHECKING:  # the hot loop reads schedules and should not pay for numpy, pydantic and YAML
    import numpy as np
    from numpy.typing import NDArray

    from hxp_harness.profile import Contract, Replicates

WARM_UP = -1
_PLAIN = {"prompt_lengths": None, "output_lengths": None, "prefix": None, "prompts": None}


def draw(contract: Contract, replicates: Replicates, seed: int) -> list[Due]:
    """Return the warm-up and `replicates.count` windows of `replicates.requests`, back to back.

    The windows are slices of one arrival process, so that one hands over to the next warm. Arrivals, prompts and think
    times have seed streams of their own: another rate or arrival leaves the prompts as they were. Sessions stand one
    after another, each whole in one window. Raises UsageError when a window cannot be filled with whole sessions, or
    recorded arrivals do not suffice.
    """
    import numpy as np

    from hxp_harness.load.lengths import tag
    from hxp_harness.load.workload import Streams, draw_questions

    children = np.random.SeedSequence(seed).spawn(6)
    arrivals, prompts, thinking, *others = (np.random.default_rng(child) for child in children)
    turns = contract.turns
    if replicates.requests % turns:
        raise UsageError(
            f"{replicates.requests} requests a window are no whole sessions of {turns} turns",
            hint=f"--requests {math.ceil(replicates.requests / turns) * turns}",
        )
    warm_up = math.ceil(replicates.warm_up_s * contract.rate_rps / turns) * turns
    sizes = [warm_up, *[replicates.requests] * replicates.count]
    starts_s = _starts_s(contract, [size // turns for size in sizes], arrivals)
    questions = draw_questions(contract, sum(sizes), Streams(prompts, *others))
    think_s = _think_s(contract, sum(sizes), thinking)
    due: list[Due] = []
    for index, question in enumerate(questions):
        turn = index % turns
        history = _history(due[-1]) if turn else 0
        prompt_tokens = question.prompt_tokens + history
        due.append(
            Due(
                index=index,
                replicate=WARM_UP if index < warm_up else (index - warm_up) // replicates.requests,
                intended_s=due[-1].intended_s + think_s[index] if turn else float(starts_s[index // turns]),
                prompt_tokens=prompt_tokens,
                output_tokens=question.output_tokens,
                seed=question.seed,
                tag=question.tag or (tag(prompt_tokens, question.output_tokens) if contract.varied else ""),
                after=index - 1 if turn else -1,
                think_s=think_s[index],
                history_tokens=history,
                prefix_seed=question.prefix_seed,
                prefix_tokens=question.prefix_tokens,
                messages=question.messages,
            )
        )
    return due


def peak_rps(contract: Contract) -> float:
    """Return the highest rate that the contract's arrivals have on purpose, requests/s."""
    arrival = contract.arrival
    if arrival.kind in {"ramp", "step"}:
        return max(rate_rps for corners_rps in arrival.corners_rps for rate_rps in corners_rps)
    if arrival.kind == "replay":
        from hxp_harness.load.replay import peak_rps as recorded_peak_rps
        from hxp_harness.load.replay import read_times

        return max(contract.rate_rps, recorded_peak_rps(read_times(arrival.file)) * contract.turns)
    return contract.rate_rps


def steady(contract: Contract) -> Contract:
    """Return `contract` with one rate, as even as it was or else Poisson, and with its mean lengths throughout."""
    from hxp_harness.arrivals import Poisson

    kept = contract.arrival if contract.arrival.kind in {"constant", "poisson", "gamma"} else Poisson()
    return contract.model_copy(update={"arrival": kept, "sessions": None, **_PLAIN})


def _history(before: Due) -> int:
    """Return the tokens that the turn `before` and its answer add to the next."""
    return before.prompt_tokens + before.output_tokens


def _starts_s(contract: Contract, sizes: Sequence[int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return when each session, or each request without sessions, is to begin."""
    from hxp_harness.load.arrival import offsets_s
    from hxp_harness.load.replay import check_times, read_times

    times_s = None
    rate_rps = contract.rate_rps / contract.turns
    if contract.arrival.kind == "replay":
        times_s = read_times(contract.arrival.file)
        check_times(contract.arrival.file, times_s, sum(sizes), rate_rps)
    return offsets_s(contract.arrival, rate_rps, sizes, rng, times_s)


def _think_s(contract: Contract, count: int, rng: np.random.Generator) -> list[float]:
    """Return the think time before each request; 0 where it follows nothing."""
    if contract.arrival.kind == "closed":
        return [float(one) for one in rng.exponential(contract.arrival.think_s, size=count)]
    if contract.sessions is None:
        return [0.0] * count
    drawn = rng.exponential(contract.sessions.think_s, size=count)
    return [float(one) if index % contract.turns else 0.0 for index, one in enumerate(drawn)]


def write_schedule(file: Path, schedule: Iterable[Due]) -> None:
    """Write one JSON line a request."""
    file.write_bytes(msgspec.json.Encoder().encode_lines(schedule))


def read_schedule(file: Path) -> list[Due]:
    """Return what `write_schedule` wrote; raise msgspec.DecodeError for anything else."""
    return msgspec.json.Decoder(Due).decode_lines(file.read_bytes())
