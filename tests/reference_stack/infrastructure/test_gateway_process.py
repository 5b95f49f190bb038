"""The gateway as real processes: replaced, renewed, reloaded, drained and killed under load."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reference_stack.errors import NotReady
from reference_stack.schemas.api.keys import digest_of
from reference_stack.workers.control import command

NIGHTLY = os.environ.get("GATEWAY_PROCESS_SIZE") == "nightly"
WITHIN_S = 15.0
START_S = 60.0  # all of the program is imported, on a machine that may have much else to do
PEPPER = "a pepper for tests alone"
KEY = "key-of-alice"
CHAT = {"model": "mixtral", "messages": [{"role": "user", "content": "say one two"}]}


def until(read: Any, *, within_s: float = WITHIN_S) -> Any:
    """Return the first truthy value of `read`, polled, or fail."""
    ends = time.monotonic() + within_s
    while not (found := read()):
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.01)  # polls a condition, with a deadline
    return found


@dataclass
class Served:
    """A gateway in processes of its own."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    settings: dict[str, Any]

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def write(self, **more: object) -> None:
        """Write its settings file, changed by `more`."""
        self.settings |= more
        (self.folder / "settings.yaml").write_text(json.dumps(self.settings, indent=1))

    def ask(self, word: str) -> dict[str, Any]:
        return command(self.control, word, WITHIN_S)

    def serving(self) -> list[int]:
        """The workers that serve; none while the parent is not there yet."""
        try:
            return [row["pid"] for row in self.ask("status")["workers"] if row["state"] == "serving"]
        except NotReady:
            return []

    def replaced(self, pid: int) -> None:
        """Wait until worker `pid` is gone and another one serves in its place."""
        until(lambda: len(self.serving()) == self.settings["workers"] and pid not in self.serving())

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=WITHIN_S)

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {KEY}"}
        url = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=WITHIN_S)

    def post(self, body: object) -> httpx.Response:
        with self.client() as client:
            return client.post("/v1/chat/completions", json=body)

    def counts(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
        }

    def relayed(self) -> float:
        """How many chat requests were answered with 200, as the metrics have it."""
        labels = (("model", "mixtral"), ("route", "/v1/chat/completions"), ("status", "200"))
        return self.counts().get(("hxp_gateway_requests_total", labels), 0.0)


@contextmanager
def served(folder: Path, backend_url: str, log: int | None = None, **more: object) -> Iterator[Served]:
    """A gateway of two workers before the model server at `backend_url`; nothing of it is left at the end.

    Its log is a file in `folder`, or the descriptor `log`.
    """
    (folder / "pepper").write_text(PEPPER)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as sock, (folder / "log").open("wb") as file:
        port = sock.getsockname()[1]
        settings: dict[str, Any] = {
            "workers": 2,
            "upstreams": {"mixtral": {"base_url": backend_url}},
            "pepper_file": str(folder / "pepper"),
            "keys": [{"id": "alice", "hash": digest_of(KEY.encode(), PEPPER.encode()).hex()}],
            "process": {"control": str(folder / "control"), "drain_s": 20},
        }
        (folder / "settings.yaml").write_text(json.dumps(settings | more, indent=1))
        argv = [sys.executable, "-m", "reference_stack", "serve", "api_gateway", "--fd", str(sock.fileno())]
        argv += ["--settings", str(folder / "settings.yaml")]
        process = subprocess.Popen(argv, pass_fds=[sock.fileno()], stderr=file if log is None else log)
    gateway = Served(process, port, folder, settings | more)
    family: list[psutil.Process] = []
    try:
        wanted = gateway.settings["workers"]
        until(lambda: process.poll() is not None or len(gateway.serving()) == wanted, within_s=START_S)
        assert process.poll() is None, gateway.log
        yield gateway
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        _, left = psutil.wait_procs(family, timeout=5)
        assert left == []


@pytest.fixture(scope="module")
def standing(shared_gateway: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that outlives a test: whoever uses it leaves two workers that serve."""
    with type(shared_gateway.backend)() as backend, served(tmp_path_factory.mktemp("standing"), backend.url) as gateway:
        yield gateway


@dataclass
class Load:
    """Clients that ask again and again over connections that they keep, and never ask twice for one answer."""

    port: int
    clients: int = 16
    ended: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    stop: bool = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self.clients)]
        await self.reach(self.clients)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop = True
        await asyncio.gather(*self._tasks)

    async def reach(self, more: int) -> None:
        """Return when `more` further requests were answered well."""
        wanted = self.ended["ok"] + more
        async with asyncio.timeout(60):
            while self.ended["ok"] < wanted:  # noqa: ASYNC110 - clients tell of nothing but their count
                await asyncio.sleep(0.005)

    async def _client(self) -> None:
        body = json.dumps(CHAT).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
        request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        streams = None
        while not self.stop:
            try:
                if streams is None:
                    streams = await asyncio.open_connection("127.0.0.1", self.port)
                streams[1].write(request)
                answer = await streams[0].readuntil(b"\r\n\r\n")
                length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await streams[0].readexactly(length)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.ended["lost"] += 1
                self.errors.append(repr(error))
                if streams is not None:
                    streams[1].close()
                streams = None
                continue
            self.ended["ok" if answer.startswith(b"HTTP/1.1 200") else "refused"] += 1
            if b"connection: close" in answer.lower():
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()


async def stream(port: int, body: dict[str, object]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Begin a stream; return when its first event is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = json.dumps({**CHAT, "stream": True, **body}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n".encode() + sent)
    begun = await reader.readuntil(b"data: ")
    return reader, writer, begun


async def test_rolling_restarts_fail_nobody(standing: Served) -> None:
    """Three rolling restarts under load: every worker is another one, and no request fails."""
    before = set(standing.serving())
    async with Load(standing.port, 32 if NIGHTLY else 16) as load:
        for _ in range(20 if NIGHTLY else 3):
            assert await asyncio.to_thread(standing.ask, "restart") == {"ok": True, "error": ""}
            await load.reach(200)
    assert (load.ended["lost"], load.ended["refused"], load.errors) == (0, 0, [])
    assert load.ended["ok"] > 600
    after = set(standing.serving())
    assert len(after) == 2
    assert not before & after
    until(lambda: not before & set(psutil.pids()))


async def test_a_killed_worker_costs_its_open_requests_alone(standing: Served) -> None:
    """SIGKILL of a worker under load fails no more requests than it had open; within 2 s another one serves."""
    async with Load(standing.port) as load:
        for _ in range(20 if NIGHTLY else 2):
            lost = load.ended["lost"]
            victim = (await asyncio.to_thread(standing.serving))[0]
            os.kill(victim, signal.SIGKILL)
            killed_s = time.monotonic()
            await asyncio.to_thread(standing.replaced, victim)
            assert time.monotonic() - killed_s < 2.0
            await load.reach(3000 if NIGHTLY else 100)
            assert load.ended["lost"] - lost <= load.clients
    assert load.ended["refused"] == 0
    assert "ended by itself (SIGKILL): replaced at once" in standing.log


async def test_counts_go_on_over_kills_and_restarts(standing: Served) -> None:
    """Counters of all workers are one page, never go back, and in the end are what the clients counted."""
    first = before = standing.counts()
    relayed = standing.relayed()
    async with Load(standing.port, 8) as load:
        for step in (lambda: standing.ask("restart"), lambda: os.kill(standing.serving()[0], signal.SIGKILL)):
            await load.reach(100)
            await asyncio.to_thread(step)
            now = await asyncio.to_thread(standing.counts)
            for (name, labels), value in before.items():
                if name.endswith(("_total", "_bucket", "_count", "_sum")):
                    assert now[name, labels] >= value, name
            before = now
        await load.reach(100)
    until(lambda: len(standing.serving()) == 2)
    # The one that was killed may have counted a request whose answer was lost, and answered one that it did not count.
    counted = standing.relayed() - relayed
    assert load.ended["ok"] - load.clients <= counted <= load.ended["ok"] + load.ended["lost"]
    last, done = standing.counts(), ("hxp_gateway_rolling_restarts_total", (("result", "done"),))
    assert last[done] == first.get(done, 0.0) + 1.0
    deaths = ("hxp_gateway_worker_deaths_total", ())
    assert last[deaths] == first[deaths] + 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n "workers": 2,\n "timeot_s": 3\n}', "settings.yaml:3: api_gateway: setting 'timeot_s': no such setting"),
        ('{\n "workers": 0\n}', "settings.yaml:2: api_gateway: setting 'workers'"),
        ("{", "is not YAML"),
        ('{"metrics": {"port": 0}}', "metrics.port cannot be changed by a reload"),
        ('{"database_dsn": "no database at all"}', "ended (exit 2) before all of them served"),
    ],
)
def test_a_wrong_reload_changes_nothing(standing: Served, text: str, said: str) -> None:
    """A configuration that is wrong is refused with its file, line and key, and the old workers go on.

    So it is with one that only a new worker finds wrong.
    """
    before = standing.serving()
    file = standing.folder / "settings.yaml"
    good = file.read_text()
    if "database_dsn" in text:
        text = json.dumps(json.loads(good) | json.loads(text))
    file.write_text(text)
    try:
        answer = standing.ask("reload")
        assert not answer["ok"]
        assert said in answer["error"]
        told = standing.log.count("old workers stay") + standing.log.count("refused")
        standing.process.send_signal(signal.SIGHUP)
        until(lambda: standing.log.count("old workers stay") + standing.log.count("refused") > told)
    finally:
        file.write_text(good)
    assert standing.serving() == before
    assert standing.post(CHAT).status_code == 200


def test_unknown_names_make_no_series(standing: Served) -> None:
    """A thousand unknown models and paths leave the sets of labels as they were."""
    with standing.client() as client:
        for name in range(20):  # until each worker knows what it counts
            client.post("/v1/chat/completions", json={**CHAT, "model": f"unknown-{name}"})
            client.get(f"/unknown/{name}")
            client.get("/metrics")
        before = set(standing.counts())
        assert len(before) > 20
        for name in range(10_000 if NIGHTLY else 1000):
            path = "/v1/chat/completions" if name % 2 else f"/unknown/{name}"
            assert client.post(path, json={**CHAT, "model": f"unknown-{name}"}).status_code == 404
    assert set(standing.counts()) == before
    assert "unknown-" not in standing.get("/metrics").text


async def test_sigterm_lets_everything_end(backend: Any, tmp_path: Path) -> None:
    """SIGTERM amid requests and open streams: all that was begun ends whole, nothing new is taken, nothing is left."""
    wanted = 5000 if NIGHTLY else 300
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    with served(tmp_path, backend.url) as gateway:
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        streams = [await stream(gateway.port, {}) for _ in range(100)]
        load = Load(gateway.port)
        async with load:
            await load.reach(wanted)
            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(until, lambda: refused(gateway.port))
            load.stop = True
        backend.call(gate.set)
        for reader, writer, _ in streams:
            assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            writer.close()
        assert await asyncio.to_thread(gateway.process.wait, WITHIN_S) == 0
        assert load.ended["refused"] == 0
        # After its last answer a client knows that the connection closes: what is lost was never accepted.
        assert [error for error in load.errors if "Refused" not in error] == []
        assert psutil.wait_procs(family, timeout=1)[1] == []


def held_open(gate: asyncio.Event, well: Any) -> Any:
    """A script of the model server: streams stand still after their first event until `gate` is set."""
    first = b'data: {"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": null}]}\n\n'
    last = b'data: {"choices": [{"index": 0, "delta": {"content": " two"}, "finish_reason": "stop"}]}\n\n'

    async def script(wire: Any) -> None:
        if not wire.asked.json.get("stream"):
            await well(wire)
            return
        await wire.stream(first)
        await gate.wait()
        for part in (last, b"data: [DONE]\n\n"):
            await wire.send(b"%x\r\n%b\r\n" % (len(part), part))
        await wire.end()

    return script


def refused(port: int) -> bool:
    """Whether nobody listens any more."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


async def test_streams_that_take_too_long_are_told(backend: Any, tmp_path: Path) -> None:
    """At the cap an open stream gets an error event, then the end of its connection, without [DONE]; a request that is
    not streamed gets 503.
    """
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    with served(tmp_path, backend.url, process={"control": str(tmp_path / "control"), "drain_s": 0.3}) as gateway:
        reader, writer, _ = await stream(gateway.port, {})
        gateway.process.send_signal(signal.SIGTERM)
        rest = await reader.read()
        writer.close()
        events = [json.loads(line[6:]) for line in rest.split(b"\n") if line.startswith(b"data: {")]
        assert events[-1]["error"]["code"] == "shutting_down"
        assert b"[DONE]" not in rest
        assert await asyncio.to_thread(gateway.process.wait, WITHIN_S) == 0
    backend.call(gate.set)


async def test_a_slow_reader_gets_all_of_its_answer(backend: Any, tmp_path: Path) -> None:
    """An answer that was written and not yet read by its client is not lost when the gateway is stopped."""
    text = "x" * 16_000_000
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer = json.dumps({"id": "x", "choices": [{"index": 0, "message": {"content": text}}], "usage": usage}).encode()

    async def large(wire: Any) -> None:
        await wire.answer(answer)

    backend.script = large
    with served(tmp_path, backend.url) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=4096)
        body = json.dumps(CHAT).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"\r\n\r\n")
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: refused(gateway.port))
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the client, longer than for one that is idle
            await asyncio.to_thread(gateway.process.wait, 1.5)
        assert await reader.readexactly(len(answer)) == answer
        writer.close()
        assert await asyncio.to_thread(gateway.process.wait, WITHIN_S) == 0


async def test_a_second_signal_ends_at_once(backend: Any, tmp_path: Path) -> None:
    """Told twice to stop, the gateway does not wait for open streams."""
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    with served(tmp_path, backend.url) as gateway:
        reader, writer, _ = await stream(gateway.port, {})
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        gateway.process.send_signal(signal.SIGINT)
        await asyncio.to_thread(until, lambda: refused(gateway.port))
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.process.wait, 2.0) == 0
        assert psutil.wait_procs(family, timeout=1)[1] == []
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1 << 20)
        writer.close()
    backend.call(gate.set)


async def test_a_reload_takes_a_model_away_and_lets_its_requests_end(backend: Any, tmp_path: Path) -> None:
    """After a reload without a model it is unknown; a stream of it that was open ends as if nothing had been."""
    gate = asyncio.Event()
    backend.script = held_open(gate, backend.script)
    with served(tmp_path, backend.url) as gateway:
        reader, writer, _ = await stream(gateway.port, {})
        gateway.write(upstreams={"phi3": {"base_url": backend.url}}, workers=3)
        assert (await asyncio.to_thread(gateway.ask, "reload"))["ok"]
        assert len(await asyncio.to_thread(gateway.serving)) == 3
        assert (await asyncio.to_thread(gateway.post, CHAT)).json()["error"]["code"] == "model_not_found"
        assert (await asyncio.to_thread(gateway.post, {**CHAT, "model": "phi3"})).status_code == 200
        backend.call(gate.set)
        assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        writer.close()


@pytest.mark.parametrize(
    ("setting", "code", "said"),
    [
        ("database_dsn=no database at all", 2, "database_dsn"),
        ("metrics={{port: {taken}}}", 5, "cannot listen on 127.0.0.1:{taken}"),
        ("process={{control: {folder}/nowhere/control}}", 5, "cannot open {folder}/nowhere"),
    ],
)
def test_a_gateway_that_cannot_start_says_why(tmp_path: Path, setting: str, code: int, said: str) -> None:
    """When it or its first workers cannot come up the gateway ends with an exit code and words that say why."""
    pepper = tmp_path / "pepper"
    pepper.write_text(PEPPER)
    with socket.create_server(("127.0.0.1", 0)) as other:
        facts = {"taken": other.getsockname()[1], "folder": tmp_path}
        argv = [sys.executable, "-m", "reference_stack", "serve", "api_gateway", "--port", "0", "--set", "workers=2"]
        argv += ["--set", f"pepper_file={pepper}", "--set", setting.format(**facts)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert said.format(**facts) in done.stderr


def test_workers_end_with_their_parent(backend: Any, tmp_path: Path) -> None:
    """When the parent is killed nothing goes on serving."""
    with served(tmp_path, backend.url) as gateway:
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        assert len(family) == 2
        gateway.process.kill()
        gateway.process.wait(5)
        assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_worker_whose_loop_stands_still_is_reported(backend: Any, tmp_path: Path) -> None:
    """A worker that does not answer is reported once and goes on when it can; where that is set, it is replaced."""
    process = {"control": str(tmp_path / "control"), "stuck_s": 1.0}
    with served(tmp_path, backend.url, process=process) as gateway:
        before = gateway.serving()
        report = f"worker {before[0]}: its event loop has not answered for"
        os.kill(before[0], signal.SIGSTOP)
        until(lambda: report in gateway.log)
        assert all(gateway.ask("status")["ok"] for _ in range(20))  # so often the parent has looked since
        assert gateway.log.count(report) == 1
        os.kill(before[0], signal.SIGCONT)
        until(lambda: gateway.serving() == before)
        gateway.write(process={**process, "replace_stuck": True})
        assert gateway.ask("reload")["ok"]
        victim = gateway.serving()[0]
        os.kill(victim, signal.SIGSTOP)
        gateway.replaced(victim)
        assert gateway.counts()["hxp_gateway_worker_stuck_total", ()] >= 2


async def test_workers_that_are_late_are_not_waited_for(backend: Any, tmp_path: Path) -> None:
    """An old worker that does not end is killed; another restart meanwhile is refused; new ones that do not come up in
    their time leave everything as it is.
    """
    process = {"control": str(tmp_path / "control"), "drain_s": 0.2}
    with served(tmp_path, backend.url, process=process) as gateway:
        before = gateway.serving()
        os.kill(before[0], signal.SIGSTOP)
        first = asyncio.create_task(asyncio.to_thread(gateway.ask, "restart"))
        await asyncio.to_thread(until, lambda: "2 workers serve, 2 end" in gateway.log)
        second = await asyncio.to_thread(gateway.ask, "restart")
        assert second == {"ok": False, "error": "a rolling restart is under way"}
        assert (await first)["ok"]
        assert f"worker {before[0]} has not ended in its time and is killed" in gateway.log
        now = gateway.serving()
        gateway.write(process={**process, "ready_s": 0.001})
        assert "the new workers do not serve after 0.001 s" in gateway.ask("reload")["error"]
        assert gateway.serving() == now


def test_a_log_that_nobody_reads_stops_nobody(backend: Any, tmp_path: Path) -> None:
    """With its log's pipe full the gateway goes on serving and being restarted, and counts the lines that it drops."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = {"control": str(tmp_path / "control"), "log_lines": 20}
    with served(tmp_path, backend.url, process=process, log=writer) as gateway:
        os.close(writer)
        with gateway.client() as client:
            for _ in range(100):
                assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert gateway.counts()["hxp_gateway_log_lines_dropped_total", ()] > 0
        assert gateway.ask("restart")["ok"]
        assert gateway.post(CHAT).status_code == 200
    os.close(reader)


def test_four_workers_are_small_and_their_metrics_have_a_door(backend: Any, tmp_path: Path) -> None:
    """A worker that has served costs no more than 80 MB, what it shares counted by its share. With a port of their own
    the metrics are there alone; with a key nobody reads them without it.
    """
    (tmp_path / "key").write_text("key-of-prometheus")
    door = {"port": 0, "key": {"file": str(tmp_path / "key")}}
    with served(tmp_path, backend.url, metrics=door, workers=4) as gateway:
        with gateway.client() as client:
            for _ in range(200):
                assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
            assert client.get("/metrics").status_code == 404
        sizes = [_pss_bytes(pid) for pid in gateway.serving()]
        assert len(sizes) == 4
        assert max(sizes) < 80e6
        url = next(word for word in gateway.log.split('"') if "/metrics" in word).split(" at ")[1]
        for given in ("", "Bearer key-of-nobody", "key-of-prometheus", f"Bearer {KEY}"):
            assert httpx.get(url, headers={"authorization": given}, trust_env=False).status_code == 401
        page = httpx.get(url, headers={"authorization": "Bearer key-of-prometheus"}, trust_env=False)
        assert page.status_code == 200
        assert "hxp_gateway_workers 4.0" in page.text


def _pss_bytes(pid: int) -> int:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:"))
