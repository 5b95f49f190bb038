"""A real gateway on a real disk that is full: it refuses, loses nothing, and heals when its rows are stored."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from hxp_harness.faults.backend import Backend
from tests.reference_stack.kill.processes import KEY, Gateway, Postgres

DISK = "256k"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--")
DEADLINE_S = 60


def small_disk(folder: Path) -> tuple[str, ...]:
    """Words that give a program a disk of its own at `folder`, which ends with it. Skips where there can be none."""
    folder.mkdir()
    words = (*NAMESPACE, "sh", "-c", f'mount -t tmpfs -o size={DISK} tmpfs "$0" && exec "$@"', str(folder))
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("not proven: this kernel gives no mount namespace, so no disk can be filled")
    return words


def test_a_full_disk_is_refused_and_heals(tmp_path: Path) -> None:
    """While PostgreSQL is out the journal fills its disk: 503 with Retry-After, and nothing else, from then on.

    When PostgreSQL is back the rows go there, room is made, requests are served again, and each that was is one row.
    """
    before = small_disk(tmp_path / "journal")
    with closing(Postgres(tmp_path)) as postgres, Backend() as backend:
        gateway = Gateway(tmp_path, backend.base_url, postgres.settings.dsn, workers=1, before=before)
        statuses, rows = asyncio.run(_story(gateway, postgres))

    assert set(statuses) == {200, 503}
    assert statuses[200] > 100
    assert len(set(rows)) == len(rows) == statuses[200]


async def _story(gateway: Gateway, postgres: Postgres) -> tuple[Counter[int], list[str]]:
    statuses: Counter[int] = Counter()
    body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        reply = await client.post("/v1/chat/completions", json=body)
        statuses[reply.status_code] += 1
        return reply

    await postgres.start()
    url, headers = f"http://127.0.0.1:{gateway.port}", {"authorization": f"Bearer {KEY}"}
    with gateway:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE_S) as client:
            assert (await ask(client)).status_code == 200
            await postgres.stop()
            async with asyncio.timeout(DEADLINE_S):
                while (refused := await ask(client)).status_code == 200:
                    pass
            assert refused.headers["retry-after"] == "1"
            assert (await ask(client)).status_code == 503
            assert (await client.get("/health/ready")).status_code == 503
            await postgres.start()

            async def served() -> bool:
                return (await ask(client)).status_code == 200

            async def stored() -> bool:
                return len(await postgres.rows()) >= statuses[200]

            await _until(served)
            await _until(stored)
    rows = await postgres.rows()
    await postgres.stop()
    return statuses, [row["request_id"] for row in rows]


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await true():  # noqa: ASYNC110 - other processes have no event to wait for
            await asyncio.sleep(0.1)
