"""The plainest client that asyncio's streams allow, as a yardstick: `python benchmarks/load/floor.py JOB.json`.

One connection a request, `readline`, user-space clock, `json.loads` of each event; open loop with `asyncio.sleep`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load.job import statistics


async def one(asked: dict[str, Any], due_s: float, into: list[tuple[float, list[float]]]) -> None:
    port = urlsplit(asked["url"]).port
    message = [{"role": "user", "content": "say something"}]
    body = {"model": "golden", "messages": message, "max_tokens": asked["tokens"], "stream": True}
    payload = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(payload)}"
    begun_s = due_s if asked["from_intended"] else time.monotonic()
    writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + payload)
    times_s: list[float] = []
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                times_s = []
                break
            if event["choices"] and event["choices"][0]["delta"].get("content"):
                times_s.append(time.monotonic())
    writer.close()
    into.append((begun_s, times_s))


async def run(asked: dict[str, Any]) -> list[tuple[float, list[float]]]:
    draw = random.Random(1)
    due_s = time.monotonic() + 0.1
    into: list[tuple[float, list[float]]] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(asked["requests"]):
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            group.create_task(one(asked, due_s, into))
            due_s += draw.expovariate(asked["rate_rps"]) if asked["poisson"] else 1 / asked["rate_rps"]
    return into


def main(asked: dict[str, Any]) -> None:
    found = asyncio.run(run(asked))
    good = [(due_s, times_s) for due_s, times_s in found if len(times_s) == asked["tokens"]]
    gaps_s = [later - sooner for _, times_s in good for sooner, later in pairwise(times_s)]
    figures = {
        "ttft": statistics([times_s[0] - due_s for due_s, times_s in good]),
        "itl": statistics(gaps_s),
        "e2e": statistics([times_s[-1] - due_s for due_s, times_s in good]),
    }
    print(json.dumps({"ok": len(good), "failed": len(found) - len(good), "figures": figures}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
