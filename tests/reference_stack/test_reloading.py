"""A running service takes new settings without a restart, all of them or none, and says what is wrong with them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from reference_stack.orchestration import ports
from reference_stack.pace import Pace
from reference_stack.schemas.configuration import SETTINGS, settings_class
from reference_stack.schemas.configuration.base import read_at_start
from reference_stack.services.integration.swap import Swap
from tests.reference_stack import written
from tests.reference_stack.infrastructure.conftest import eventually, serving


@contextmanager
def served(name: str, file: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes], Path]]:
    """Run a service as a process of its own, with the settings in `file`; its log is a file beside it."""
    log = file.with_suffix(".log")
    with ports.listen(0) as sock, log.open("wb") as output:
        words = ("serve", name, "--settings", str(file), "--fd", str(sock.fileno()))
        argv = [sys.executable, "-m", "reference_stack", *words]
        port = sock.getsockname()[1]
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[sock.fileno()]
        ) as process:
            sock.close()
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
                    eventually(lambda: process.poll() is not None or _answers(http), within_s=60)
                    assert process.poll() is None, log.read_text()
                    yield http, process, log
            finally:
                process.terminate()
                assert process.wait(15) == 0


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/health/live").status_code == 200
    except httpx.HTTPError:
        return False


def put(file: Path, settings: object) -> None:
    written.put(file, json.dumps(settings, indent=1))


def hooked() -> tuple[FastAPI, list[str]]:
    """A webhook, and the groups that it was told of."""
    told: list[str] = []
    app = FastAPI()

    @app.post("/hook")
    async def hook(request: Request) -> None:
        told.append((await request.json())["groupKey"])

    return app, told


def test_monitoring_takes_all_that_may_change(tmp_path: Path) -> None:
    """Services, intervals, deadline, webhook and log level of a running service are those of the file within a moment;
    an alert that was told to the old webhook is not told again to the new one.
    """
    file = tmp_path / "monitoring.json"
    one, first = hooked()
    other, second = hooked()
    with serving(one) as hook, serving(other) as later:
        away = {"cache": "http://127.0.0.1:1/health"}
        said = {"services": away, "interval_s": 3600, "alert_interval_s": 3600, "webhook": f"{hook}/hook"}
        put(file, said)
        with served("monitoring", file) as (http, process, log):

            def down() -> list[str]:
                return [row["name"] for row in http.get("/status").json()["services"] if row["state"] == "down"]

            eventually(lambda: down() == ["cache"])
            more = {**away, "elsewhere": f"{later}/none"}
            new = {
                "interval_s": 0.05,
                "deadline_s": 1,
                "alert_interval_s": 0.05,
                "alert_wait_s": 0,
                "log_level": "debug",
            }
            put(file, {**said, **new, "services": more, "webhook": f"{later}/hook"})
            process.send_signal(signal.SIGHUP)
            eventually(lambda: http.get("/status").json()["services"][-1]["name"] == "elsewhere", within_s=30)
            eventually(lambda: http.get("/status").json()["services"][-1]["state"] == "unready")
            assert "hxp_settings_current 1.0" in http.get("/metrics").text
            assert 'hxp_settings_reloads_total{outcome="good"} 1.0' in http.get("/metrics").text
            eventually(lambda: "reloaded: log_level, services, interval_s, deadline_s, webhook" in log.read_text())
            assert http.get("/health").json()["status"] == "ready"
    assert first == second == []  # nothing fired for a minute yet


WRONG: tuple[tuple[dict[str, object], str], ...] = (
    ({"intervl_s": 1}, "monitoring: setting 'intervl_s': no such setting\n  did you mean 'interval_s'?"),
    ({"interval_s": -1}, "monitoring: setting 'interval_s': Input should be greater than 0"),
    ({"silences_file": "elsewhere"}, "monitoring: setting 'silences_file' is read when the service starts"),
)


def test_what_is_wrong_changes_nothing_and_names_its_place(tmp_path: Path) -> None:
    """A reload that is refused keeps every setting in force, those beside the wrong one too; log and health name file,
    line and key; a good file clears it, without a signal.
    """
    file = tmp_path / "monitoring.json"
    good = {"services": {}, "deadline_s": 5}
    put(file, good)
    with served("monitoring", file) as (http, _, log):
        for change, words in WRONG:
            put(file, {"services": {"cache": "http://127.0.0.1:1/"}, **change})
            expected = f"{file}:5: {words}"  # the services take lines 2 to 4
            eventually(lambda: http.get("/health").json()["status"] == "degraded", within_s=30)
            said = http.get("/health").json()["dependencies"]["settings"]
            assert said.startswith(f"the last reload was refused: {expected}"), said
            assert expected.splitlines()[0] in log.read_text()
            assert http.get("/health").status_code == 200
            rows = {row["name"]: row["state"] for row in http.get("/status").json()["services"]}
            assert (len(rows), rows["cache"]) == (12, "unknown")
            assert "hxp_settings_current 0.0" in http.get("/metrics").text
            put(file, good)
            eventually(lambda: http.get("/health").json()["status"] == "ready", within_s=30)


def test_a_file_that_goes_leaves_the_service_as_it_is(tmp_path: Path) -> None:
    """Without its file a service goes on with what it has, and says so; with it again, it takes what it says."""
    file = tmp_path / "storage.json"
    put(file, {"runs": str(tmp_path), "least_free_bytes": 1 << 62})
    with served("storage", file) as (http, _, _log):
        assert http.get("/health").status_code == 503
        file.unlink()
        eventually(lambda: "cannot read" in http.get("/health").text)
        put(file, {"runs": str(tmp_path), "least_free_bytes": 0})
        eventually(lambda: http.get("/health").json()["status"] == "ready")


def test_a_new_address_is_asked_and_the_old_one_ends() -> None:
    """A cache, database, vector database and metrics client that gets new settings asks the new server from then on;
    what was asked of the old one is answered by it.
    """

    async def play() -> None:
        ended: list[str] = []
        answered = asyncio.Event()

        class Client:
            def __init__(self, name: str) -> None:
                self.name = name

            async def ask(self) -> str:
                await answered.wait()
                return self.name

            async def close(self) -> None:
                ended.append(self.name)

        swap = Swap(Client("old"))
        asked = asyncio.create_task(swap.now.ask())
        await asyncio.sleep(0)
        swap.put(Client("new"), ends_s=0.05)
        answered.set()
        assert (await asked, await swap.now.ask(), ended) == ("old", "new", [])
        async with asyncio.timeout(5):
            while ended != ["old"]:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
        swap.put(Client("newest"), ends_s=60)
        await swap.close()
        assert ended == ["old", "new", "newest"]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("name", "settings", "key", "value"),
    [
        ("cache", {"backend": "mock"}, "connections", 7),
        ("database", {"backend": "mock"}, "command_s", 1.5),
        ("metrics", {"backend": "mock"}, "timeout_s", 3.5),
        ("vector_database", {"backend": "mock"}, "collections", {"notes": {"size": 2, "tenant": "owner"}}),
        ("configuration", {}, "watch_s", 0),
    ],
)
async def test_every_service_takes_what_it_says_it_takes(
    name: str, settings: dict[str, object], key: str, value: object
) -> None:
    """Each application puts what may change in flight to work and goes on to serve."""
    from reference_stack.serve import ENTRIES, load

    kind = settings_class(name)
    app = load(ENTRIES[name].app)(kind.model_validate(settings))
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        await app.state.take(kind.model_validate({**settings, key: value}))
        assert (await http.get("/health")).json()["status"] == "ready"
        if name == "vector_database":
            asked = {"vector": [1.0, 0.0]}
            reply = await http.post("/v1/collections/notes/search", json=asked, headers={"X-HXP-Tenant": "acme"})
            assert reply.json() == []


@pytest.mark.parametrize("name", SETTINGS)
def test_what_may_change_is_named_and_exists(name: str) -> None:
    """Every service's log level may change; each name that may is one of its settings, and the rest is refused."""
    kind = settings_class(name)
    assert "log_level" in kind.in_flight()
    assert kind.in_flight() <= set(kind.model_fields)
    base = {"service": name} if "service" in kind.model_fields else {}
    settings = kind.model_validate(base)
    louder = settings.model_copy(update={"log_level": "debug"})
    assert read_at_start(settings, louder) == []
    fixed = sorted(set(kind.model_fields) - kind.in_flight())
    for key in fixed:
        assert read_at_start(settings, settings.model_copy(update={key: object()})) == [key]


async def test_a_pace_changes_at_once() -> None:
    """Who waits for an hour and is told to wait a moment waits a moment; 0 waits for ever, until it is told."""
    pace = Pace(3600)

    async def waited_s(wait: Callable[[], None]) -> float:
        began = time.monotonic()
        waiting = asyncio.create_task(pace.wait())
        await asyncio.sleep(0)
        wait()
        async with asyncio.timeout(10):
            await waiting
        return time.monotonic() - began

    assert await waited_s(lambda: pace.change(0.01)) < 5
    assert await waited_s(lambda: None) < 5
    pace.change(0)
    assert await waited_s(lambda: pace.change(0.01)) < 5
