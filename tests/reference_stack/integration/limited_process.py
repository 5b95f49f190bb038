"""A process of clients that race for one key's limits: python -m ... PORT NAMESPACE SHARERS LIMITS ATTEMPTS HOLD_S.

Prints "ready", waits for a line, then prints when each granted request began and ended, in seconds of the machine's
monotonic clock, as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from reference_stack.schemas.api.keys import ApiKey, KeyLimits
from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.infrastructure.api_gateway.keys.limits import LeasedLimits
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.integration.cache.client import connect

_CLIENTS = 8


async def race(limits: LeasedLimits, key: ApiKey, attempts: int, hold_s: float) -> list[tuple[float, float]]:
    """Let the clients ask so often each, and keep what they get for `hold_s`."""
    granted: list[tuple[float, float]] = []

    async def client() -> None:
        for _ in range(attempts):
            try:
                grant = await limits.take(key, 10)
            except Refusal:
                await asyncio.sleep(0.002)
                continue
            began_s = time.monotonic()
            await asyncio.sleep(hold_s)
            granted.append((began_s, time.monotonic()))
            grant.settle(10)

    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    return granted


async def main(port: str, namespace: str, sharers: str, said: str, attempts: str, hold_s: str) -> None:
    settings = CacheSettings(port=int(port), namespace=namespace, command_s=5.0, connect_s=5.0)
    cache = connect(settings)
    assert await cache.ping() == ""
    limits = LeasedLimits(cache, None, sharers=int(sharers), held_s=1.0)
    renewing = asyncio.create_task(limits.run())
    key = ApiKey("carol", bytes(32), frozenset({"*"}), limits=KeyLimits(**json.loads(said)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(await race(limits, key, int(attempts), float(hold_s))), flush=True)
    renewing.cancel()
    await limits.close()
    await cache.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
