"""How long four real tiny vLLM servers take to serve, and what they cost, forked from one import or each by itself.

python benchmarks/tiny_start.py            # forked
python benchmarks/tiny_start.py --apart    # four commands
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import psutil

from reference_stack.orchestration.deployment.plan import draw
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.deployment.want import Want
from reference_stack.orchestration.supervisor import Supervisor

MODELS = ("mixtral", "hermes", "openchat", "phi3")
CACHE = Path(".hxp/cache").absolute()


async def measure(names: tuple[str, ...], *, apart: bool) -> None:
    """Start all of `names`, print seconds, CPU seconds and proportional memory, stop them."""
    with tempfile.TemporaryDirectory() as folder:
        want = Want(Path(folder), CACHE, names, "vllm", "tiny", "free")
        with Room(want) as room:
            units = draw(room).units
            if apart:
                units = tuple(dataclasses.replace(unit, trade=None, ready_s=500.0) for unit in units)
            supervisor = Supervisor(units, room.logs)
            began = time.monotonic()
            await supervisor.start()
            ready_s = time.monotonic() - began
            servers = psutil.Process().children(recursive=True)
            cpu_s = sum(sum(server.cpu_times()[:2]) for server in servers)
            memory_bytes = sum(server.memory_full_info().pss for server in servers)
            await supervisor.stop()
    how = "apart" if apart else "forked"
    load = os.getloadavg()[0]
    cost = f"CPU {cpu_s:.1f} s, PSS {memory_bytes / 2**30:.2f} GiB"
    print(f"{len(names)} {how}: ready {ready_s:.1f} s, {cost}, load {load:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("names", nargs="*", default=MODELS)
    options = parser.parse_args()
    asyncio.run(measure(tuple(options.names), apart=options.apart))
