"""A machine made noisy on purpose: a hog beside the client, and a client that is stopped at random."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.meanwhile import meanwhile

EVERY_S = 0.5  # mean time between two stops

Pids = Callable[[], list[int]]


@dataclass(frozen=True, slots=True)
class Noise:
    """`stop_s` > 0: the client stands still so long, again and again; `hog`: somebody else wants its core."""

    name: str
    stop_s: float = 0.0
    hog: bool = False


ALL = (
    Noise("quiet"),
    Noise("hog at equal priority", hog=True),
    *(Noise(f"stopped for {stop_s * 1e3:g} ms at random", stop_s) for stop_s in (0.005, 0.02, 0.1)),
)


@contextlib.contextmanager
def made(noise: Noise, client: Pids, core: int, seed: int) -> Iterator[None]:
    """Make the noise while the context lasts; `client` tells which processes are the client's at the moment."""
    with contextlib.ExitStack() as stack:
        if noise.hog:
            stack.enter_context(_hog(client, core))
        if noise.stop_s:
            stack.enter_context(_stops(noise.stop_s, client, seed))
        yield


@contextlib.contextmanager
def _hog(client: Pids, core: int) -> Iterator[None]:
    """Spin on the client's core, at the client's priority as soon as there is one."""
    hog = subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", "while True: pass"])

    def follow(over: threading.Event) -> None:
        while not over.wait(0.05):
            for pid in client():
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, hog.pid, os.getpriority(os.PRIO_PROCESS, pid))

    try:
        with meanwhile(follow):
            yield
    finally:
        hog.kill()
        hog.wait()


def _stops(stop_s: float, client: Pids, seed: int) -> contextlib.AbstractContextManager[None]:
    """Stop the client's processes together, at exponential times."""
    draw = random.Random(seed)

    def stop(over: threading.Event) -> None:
        while not over.wait(draw.expovariate(1 / EVERY_S)):
            pids = client()
            _signal(pids, signal.SIGSTOP)
            over.wait(stop_s)
            _signal(pids, signal.SIGCONT)

    return meanwhile(stop)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
