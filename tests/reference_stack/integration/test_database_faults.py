"""What the database's callers get while PostgreSQL crashes, hangs, is locked or read-only; and that no row is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import psutil
import pytest

from reference_stack.orchestration import ports, readiness
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.integration.database.embedded import EmbeddedPostgres
from reference_stack.services.integration.database.migrate import Connection
from reference_stack.services.integration.database.pool import Pool
from reference_stack.services.integration.database.port import Unavailable
from reference_stack.services.integration.database.postgres import PostgresDatabase

CACHE = Path(__file__).parents[3] / ".hxp" / "cache"
Start = Callable[[Program, readiness.Probe, Path], "subprocess.Popen[bytes]"]
CRASHES = 20
HEALS_S = 5.0
ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def row(number: int) -> UsageRow:
    return UsageRow(
        f"r{number:08}", "", "k1", "acme", "phi3", "chat", "complete", 200, True, 10, 5, True, 1.7e9 + number, 0.5
    )


@dataclass
class Server:
    """A PostgreSQL that a test may hurt, and the database in front of it."""

    settings: DatabaseSettings
    program: Program
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes]
    database: PostgresDatabase

    def crash(self, number: int) -> None:
        """End it as `number` does, with every process of its own, and wait until they are gone."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        self.process.wait(20)
        psutil.wait_procs(family, 20)

    def family(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self.process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    async def raw(self) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(self.settings.dsn)

    async def heal_s(self) -> float:
        """Return how long it takes until the database says that it serves."""
        began = time.monotonic()
        while reason := await self.database.ping():
            assert time.monotonic() - began < 3 * HEALS_S, reason
            await asyncio.sleep(0.01)
        return time.monotonic() - began


@pytest.fixture
async def server(tmp_path: Path, start: Start, reserved: ports.Reservation) -> AsyncIterator[Server]:
    settings = DatabaseSettings(port=reserved.port, connection_pool_size=4, connect_s=1.0, acquire_s=1.0, command_s=1.0)
    program = EmbeddedPostgres(settings, tmp_path, CACHE).prepare()
    probe = readiness.postgres(settings.host, settings.port, settings.user, settings.database)

    def begin() -> subprocess.Popen[bytes]:
        return start(program, probe, tmp_path / f"log{time.monotonic_ns()}")

    database = PostgresDatabase(settings)
    here = Server(settings, program, begin, begin(), database)
    assert await here.heal_s() < HEALS_S
    yield here
    await database.close()


async def unavailable_s(call: Awaitable[object], words: str = "") -> float:
    """Return after how long `call` says that the database is unavailable."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match=words):
        await call
    return time.monotonic() - began


async def test_no_row_is_lost_over_twenty_crashes(server: Server) -> None:
    """Twenty times SIGKILL and immediate shutdown by turns, under write load: each row that was acknowledged is there
    once, rows that were not are there after they were sent again, and each time it heals within 5 s.
    """
    sent, acknowledged, stop = 0, 0, asyncio.Event()

    async def write() -> None:
        nonlocal sent, acknowledged
        while not stop.is_set():
            batch = [row(number) for number in range(sent, sent + 25)]
            sent += len(batch)
            while True:
                try:
                    await server.database.usage.add(batch)
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)
            acknowledged += len(batch)

    writers = [asyncio.create_task(write()) for _ in range(4)]
    recoveries_s = []
    for crash in range(CRASHES):
        goal = acknowledged + 200
        async with asyncio.timeout(60):
            while acknowledged < goal:  # noqa: ASYNC110 - the writers count
                await asyncio.sleep(0.005)
        number = signal.SIGKILL if crash % 2 else signal.SIGQUIT  # SIGQUIT is what `pg_ctl -m immediate` sends
        await asyncio.to_thread(server.crash, number)
        server.process = await asyncio.to_thread(server.start)
        recoveries_s.append(await server.heal_s())
    stop.set()
    await asyncio.gather(*writers)
    ids = await server.database.usage.request_ids(*ALWAYS)
    assert acknowledged == sent >= CRASHES * 200
    assert ids == [row(number).request_id for number in range(sent)]
    assert len(recoveries_s) == CRASHES
    assert max(recoveries_s) < HEALS_S, recoveries_s


async def test_a_hung_server_costs_the_deadline_and_heals(server: Server) -> None:
    """With every process of PostgreSQL frozen each call ends within its deadlines; thawed, it serves within 5 s."""
    settings = server.settings
    frozen = server.family()
    for process in frozen:
        process.suspend()
    try:
        calls = [unavailable_s(server.database.usage.add([row(number)]), "in time") for number in range(12)]
        costs_s = await asyncio.gather(*calls)
        assert "in time" in await server.database.ping()
    finally:
        for process in frozen:
            process.resume()
    assert await server.heal_s() < HEALS_S
    assert max(costs_s) < settings.acquire_s + settings.command_s + 1.0, costs_s
    await server.database.usage.add([row(1)])
    assert "r00000001" in await server.database.usage.request_ids(*ALWAYS)


async def test_a_server_that_is_down_at_the_start_is_found_when_it_comes(server: Server) -> None:
    """A database that is opened while nobody is there says so at once, and serves as soon as somebody is."""
    server.crash(signal.SIGKILL)
    late = PostgresDatabase(server.settings)
    assert await unavailable_s(late.keys.all_keys(), "ConnectionRefusedError") < 2.0
    server.process = server.start()
    assert await late.keys.all_keys() == []
    await late.close()


async def test_a_locked_table_costs_the_deadline_and_nothing_stays(server: Server) -> None:
    """While somebody locks the table a writer is told so within its deadline, and leaves no waiter in the server."""
    locker = await server.raw()
    async with locker.transaction():
        await locker.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
        cost_s = await unavailable_s(server.database.usage.add([row(1)]), "locked")
        waiting = await locker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    await locker.close()
    assert cost_s < server.settings.command_s + 0.5
    assert waiting == 0
    await server.database.usage.add([row(1)])
    assert await server.database.usage.request_ids(*ALWAYS) == ["r00000001"]


async def test_a_read_only_server_is_read_and_says_so(server: Server) -> None:
    """While it takes no writes rows are held and not refused, what is there is read, and health tells."""
    await server.database.usage.add([row(1)])
    await set_read_only(server, "on")
    await unavailable_s(server.database.usage.add([row(2)]), "read-only")
    assert await server.database.usage.request_ids(*ALWAYS) == ["r00000001"]
    assert await server.database.ping() == "PostgreSQL is read-only"
    await set_read_only(server, "off")
    await server.database.usage.add([row(2)])
    assert await server.database.ping() == ""


async def set_read_only(server: Server, value: str) -> None:
    """Tell it, and end the connections that were not told."""
    connection = await server.raw()
    await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
    await connection.execute(f"ALTER DATABASE {server.settings.database} SET default_transaction_read_only = {value}")
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = current_user AND pid <> pg_backend_pid()"
    )
    await connection.close()


async def test_a_deadlock_is_tried_again(server: Server) -> None:
    """Where two writers wait for each other the one that PostgreSQL breaks off is repeated, and both are done."""
    patient = server.settings.model_copy(update={"command_s": 10.0})
    pool = Pool(patient)
    raw = await server.raw()
    await raw.execute("CREATE TABLE pair (id int PRIMARY KEY, n int); INSERT INTO pair VALUES (1, 0), (2, 0)")
    both_hold_one = asyncio.Barrier(2)
    tries = 0

    def writer(first: int, second: int) -> Callable[[Connection], Awaitable[None]]:
        async def work(connection: Connection) -> None:
            nonlocal tries
            tries += 1
            async with connection.transaction():
                await connection.execute("UPDATE pair SET n = n + 1 WHERE id = $1", first)
                if tries <= 2:
                    await both_hold_one.wait()
                await connection.execute("UPDATE pair SET n = n + 1 WHERE id = $1", second)

        return work

    await asyncio.gather(pool.run(writer(1, 2)), pool.run(writer(2, 1)))
    assert tries > 2
    assert [record["n"] for record in await raw.fetch("SELECT n FROM pair ORDER BY id")] == [2, 2]
    await raw.close()
    await pool.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$", "cannot serve: DiskFullError"),
        ("DO $$ BEGIN RAISE EXCEPTION 'no read' USING ERRCODE = '58030'; END $$", "cannot serve: PostgresIOError"),
        ("SELECT pg_sleep(30)", "in time"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "cannot be asked"),
    ],
)
async def test_what_a_server_says_of_itself_is_told(server: Server, statement: str, words: str) -> None:
    """A full disk, a disk that cannot be read, a statement that takes too long and an end by the operator are outages,
    each by its name; the next call is answered.
    """
    pool = Pool(server.settings)
    assert await unavailable_s(pool.run(lambda connection: connection.execute(statement)), words) < 6.0
    assert await pool.run(lambda connection: connection.fetchval("SELECT 1")) == 1
    await pool.close()


async def test_a_call_that_is_given_up_gives_its_connection_back(server: Server) -> None:
    """Callers that are cancelled at any moment, more than there are connections, leave the pool whole."""
    for turn in range(40):
        call = asyncio.ensure_future(server.database.usage.add([row(turn)]))
        for _ in range(turn % 11):
            await asyncio.sleep(0)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
    await asyncio.gather(*(server.database.usage.add([row(number)]) for number in range(40)))
    assert len(await server.database.usage.request_ids(*ALWAYS)) == 40


async def test_first_callers_share_one_opening(server: Server) -> None:
    """Of many who come first one applies the migrations; none of them is told anything but its answer."""
    late = PostgresDatabase(server.settings)
    assert await asyncio.gather(*(late.keys.all_keys() for _ in range(20))) == [[]] * 20
    await late.close()


async def test_a_migration_that_takes_longer_than_a_call_is_finished(server: Server) -> None:
    """While another process migrates, callers end within their deadline; when it is done they are answered."""
    other = await server.raw()
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", 0x68787031)
        late = PostgresDatabase(server.settings)
        assert await unavailable_s(late.keys.all_keys(), "in time") < 3.5
        assert "in time" in await late.ping()
    async with asyncio.timeout(10):
        while await late.ping():  # noqa: ASYNC110 - the migration ends by itself
            await asyncio.sleep(0.01)
    await other.close()
    await late.close()
