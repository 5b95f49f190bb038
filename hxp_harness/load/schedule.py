"""The schedule of a run: every request that will be sent, drawn and written before the first one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hxp_harness.load.plan import Due
from hxp_harness.load.prompts import PROMPT_SEEDS

if TYPE_CHECKING:  # the hot loop reads schedules and should not pay for pydantic and YAML
    from hxp_harness.profile import Contract, Replicates

WARM_UP = -1


def draw(contract: Contract, replicates: Replicates, seed: int) -> list[Due]:
    """Return the warm-up and `replicates.count` windows of `replicates.requests`, back to back.

    The windows are slices of one arrival process, so that one hands over to the next warm. Arrivals and prompts have
    seed streams of their own: another rate or arrival leaves the prompts as they were.
    """
    import numpy as np  # nor for numpy

    from hxp_harness.load.arrival import offsets_s

    arrivals, prompts = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    warm_up = math.ceil(replicates.warm_up_s * contract.rate_rps)
    count = warm_up + replicates.count * replicates.requests
    intended_s = offsets_s(contract.arrival, contract.rate_rps, count, arrivals)
    seeds = np.unique(prompts.integers(PROMPT_SEEDS, size=count))
    while len(seeds) < count:
        seeds = np.unique(np.append(seeds, prompts.integers(PROMPT_SEEDS, size=count - len(seeds))))
    prompts.shuffle(seeds)
    return [
        Due(
            index=index,
            replicate=WARM_UP if index < warm_up else (index - warm_up) // replicates.requests,
            intended_s=float(intended_s[index]),
            prompt_tokens=contract.prompt_tokens,
            output_tokens=contract.output_tokens,
            seed=int(seeds[index]),
        )
        for index in range(count)
    ]


def write_schedule(file: Path, schedule: Iterable[Due]) -> None:
    """Write one JSON line a request."""
    file.write_bytes(msgspec.json.Encoder().encode_lines(schedule))


def read_schedule(file: Path) -> list[Due]:
    """Return what `write_schedule` wrote; raise msgspec.DecodeError for anything else."""
    return msgspec.json.Decoder(Due).decode_lines(file.read_bytes())
