"""What keys cost one worker of the gateway as they grow in number, and what limits cost a request: CPU and memory.

python -m benchmarks.gateway_keys [--keys N ...]. Best of five rounds each; no sockets, no database.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from reference_stack.schemas.api.keys import UNLIMITED, ApiKey, KeyLimits, digest_of
from reference_stack.services.infrastructure.api_gateway.keys.limits import LeasedLimits
from reference_stack.services.infrastructure.api_gateway.keys.ring import KeyRing

PEPPER = bytes(32)
ROUNDS = 5
CALLS = 20_000
TERMS = KeyLimits(6000, 10**6, 64)
MODELS = frozenset({"phi3", "hermes"})
HUGE = 10**12


class Store:
    """A repository that makes each key when it is asked for, as PostgreSQL's rows would."""

    async def find_key(self, digest: bytes) -> ApiKey:
        return ApiKey(f"key-{digest.hex()[:12]}", digest, MODELS, "tenant", TERMS)


def resident_mb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


async def best_us(work: Callable[[], Awaitable[None]]) -> float:
    """Return the CPU time of one of CALLS calls, in microseconds."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        began_s = time.process_time()
        await work()
        best_s = min(best_s, time.process_time() - began_s)
    return best_s / CALLS * 1e6


async def admission(count: int) -> str:
    """Remember `count` keys, then let them in by chance."""
    before_mb = resident_mb()
    ring = KeyRing((), PEPPER, Store(), fresh_s=3600)
    headers = [b"Bearer k%d" % number for number in range(count)]
    for header in headers:
        await ring.admit([header])
    after_mb = resident_mb()
    chosen = [[header] for header in random.Random(7).choices(headers, k=CALLS)]

    async def admit() -> None:
        for header in chosen:
            await ring.admit(header)

    return f"{count:>8} keys: {await best_us(admit):6.2f} us to admit one, {after_mb - before_mb:6.1f} MB"


async def limits(name: str, terms: KeyLimits) -> str:
    """Take and settle one request after another, with room in hand."""
    found = LeasedLimits(None, None)
    key = ApiKey(name, digest_of(name.encode(), PEPPER), MODELS, limits=terms)

    async def take() -> None:
        for _ in range(CALLS):
            (await found.take(key, 100)).settle(50)

    await asyncio.create_task(take())
    return f"{name:>24}: {await best_us(take):6.2f} us to take and settle"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, nargs="+", default=[10, 1000, 10_000, 50_000, 100_000])
    for count in parser.parse_args().keys:
        print(await admission(count))
    for name, terms in (
        ("no limits", UNLIMITED),
        ("requests", KeyLimits(HUGE)),
        ("requests, tokens, places", KeyLimits(HUGE, HUGE, HUGE)),
    ):
        print(await limits(name, terms))


if __name__ == "__main__":
    asyncio.run(main())
