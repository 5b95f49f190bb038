"""Holds the processes of a stack to the cores and the memory of their rows in the catalogue.

Cores are an affinity: each unit gets its own, in the order of the stack, and they are shared where the machine has too
few. Memory is a cgroup's, which counts what all processes of the unit really use. Where no cgroup can be made it is
RLIMIT_DATA, which counts the writable memory that one process has asked for, touched or not. RLIMIT_AS would count all
address space: the engine of a tiny vLLM has 605 MiB resident, 895 MiB of data and 1,866 MiB of address space, and CUDA
reserves as much address space as all its devices have. How much data a process with CUDA asks for nobody has measured
here, so an engine on a GPU is not held by RLIMIT_DATA, and the words say so.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import psutil

from reference_stack.orchestration import cgroup
from reference_stack.orchestration.state import StackState
from reference_stack.schemas.common.limits import FREE, Hold, Limits

_EMPTY_S = 1.0  # how long processes of a stopped unit may take to leave its cgroup


def cores_of(limits: Mapping[str, Limits], available: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the cores of each unit: one after another, from the beginning again where `available` is used up."""
    found, at = {}, 0
    for name, limit in limits.items():
        count = min(limit.cpu_cores or 0, len(available))
        found[name] = tuple(sorted(available[(at + i) % len(available)] for i in range(count)))
        at += count
    return found


class Holds:
    """The limits of the units of one supervisor, put into force one by one."""

    def __init__(self, limits: Mapping[str, Limits], hierarchy: cgroup.Hierarchy | None) -> None:
        self._limits = limits
        self._hierarchy = hierarchy
        self._cores = cores_of(limits, sorted(os.sched_getaffinity(0)))
        self._made: dict[str, Hold] = {}
        self._supervisor = StackState(os.getpid(), psutil.Process().create_time())

    @classmethod
    def on_this_machine(cls, limits: Mapping[str, Limits]) -> Holds:
        """Return the holds for `limits`, and remove what a killed supervisor left. Tries cgroups only if needed."""
        bounded = any(limit.memory_bytes for limit in limits.values())
        hierarchy = cgroup.find() if bounded else None
        if hierarchy is not None:
            hierarchy.sweep()
        return cls(limits, hierarchy)

    def of(self, name: str) -> Hold:
        """Return how unit `name` is held; its cgroup is there from now on."""
        if name not in self._made:
            self._made[name] = self._hold(name, self._limits[name])
        return self._made[name]

    def _hold(self, name: str, limits: Limits) -> Hold:
        cores = self._cores[name]
        words = []
        if limits.cpu_cores:
            short = len(cores) < limits.cpu_cores
            words.append(f"cores {len(cores)} of {limits.cpu_cores} asked" if short else f"cores {len(cores)}")
        hold = self._memory(name, limits) if limits.memory_bytes else FREE
        return replace(hold, cores=cores, shown=", ".join([*words, *filter(None, [hold.shown])]))

    def _memory(self, name: str, limits: Limits) -> Hold:
        memory_bytes = limits.memory_bytes or 0
        size = f"memory {memory_bytes / 1e9:g} GB"
        if self._hierarchy is not None:
            made = self._hierarchy.make(name, self._supervisor, memory_bytes)
            return Hold(cgroup=made, shown=f"{size} by cgroup v{self._hierarchy.version}")
        if limits.by_rlimit:
            return Hold(data_bytes=memory_bytes, shown=f"{size} a process by RLIMIT_DATA")
        return Hold(shown=f"{size} not enforced: no cgroup can be made here")

    def verdict(self, name: str) -> str:
        """Return why unit `name` may have ended: "" or that the kernel killed it for its memory."""
        made = self._made.get(name, FREE).cgroup
        if made is None or self._hierarchy is None or not self._hierarchy.kills(made):
            return ""
        memory_bytes = self._limits[name].memory_bytes or 0
        return f", over its memory limit of {memory_bytes / 1e9:g} GB"

    async def release(self, name: str) -> None:
        """Remove the cgroup of unit `name`, whose processes have ended."""
        made = self._made.pop(name, FREE).cgroup
        deadline = time.monotonic() + _EMPTY_S
        # The kernel tells nobody that a process has left.
        while made is not None and not cgroup.remove(made) and time.monotonic() < deadline:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)
