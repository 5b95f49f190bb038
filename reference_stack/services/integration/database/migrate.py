"""Brings a database to the shape this version needs: numbered SQL files, each applied once, none changed after."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import asyncpg

from reference_stack.errors import StackError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x68787031  # any number that nobody else in this database locks
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)"""


class MigrationChanged(StackError):
    """A migration's file is not the one that was applied."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: NUMBER_NAME.sql."""

    number: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.statements.encode()).hexdigest()


def read(folder: Path = FOLDER) -> list[Migration]:
    """Return the migrations of `folder` in their order."""
    found = []
    for file in sorted(folder.glob("*.sql")):
        number, _, name = file.stem.partition("_")
        found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return found


async def migrate(connection: Connection, migrations: Sequence[Migration] | None = None) -> list[int]:
    """Apply what is missing, all of it or nothing; return the numbers applied.

    Raises MigrationChanged when an applied file differs. Several processes may call this at once: one works, the
    others wait.
    """
    wanted = read() if migrations is None else migrations
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        rows = await connection.fetch("SELECT number, checksum FROM schema_migration")
        applied = {row["number"]: row["checksum"] for row in rows}
        for migration in wanted:
            known = applied.get(migration.number)
            if known is not None and known != migration.checksum:
                raise MigrationChanged(
                    f"migration {migration.number:04} ({migration.name}) was changed after it was applied",
                    hint="restore the file, and write the change as a new migration",
                )
        missing = [migration for migration in wanted if migration.number not in applied]
        for migration in missing:
            await connection.execute(migration.statements)
            await connection.execute(
                "INSERT INTO schema_migration (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    return [migration.number for migration in missing]
