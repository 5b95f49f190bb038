"""Runs one service in this process: its settings checked first, then its application under uvicorn."""

from __future__ import annotations

import importlib
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from reference_stack.catalogue import load_catalogue
from reference_stack.errors import NotReady, SettingsError, nearest
from reference_stack.schemas.configuration.marked import NotYaml, read_marked
from reference_stack.schemas.configuration.problem import explain

if TYPE_CHECKING:
    from reference_stack import reloading

_CONFIGURATION = "reference_stack.schemas.configuration"
_SERVICES = "reference_stack.services"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a service's settings class and its `create_app(settings) -> ASGI application` are ("module:name").

    One with `workers` is served by several processes, and its `create_app` takes `place` as well.
    """

    settings: str
    app: str
    workers: bool = False


_MODEL = Entry(f"{_CONFIGURATION}.model:ModelSettings", f"{_SERVICES}.ai_models.sim_server:create_app")
ENTRIES: Mapping[str, Entry] = {
    "mixtral": _MODEL,
    "hermes": _MODEL,
    "openchat": _MODEL,
    "phi3": _MODEL,
    "api_gateway": Entry(
        f"{_CONFIGURATION}.api_gateway:ApiGatewaySettings",
        f"{_SERVICES}.infrastructure.api_gateway.app:create_app",
        workers=True,
    ),
    "monitoring": Entry(
        f"{_CONFIGURATION}.monitoring:MonitoringSettings", f"{_SERVICES}.infrastructure.monitoring.app:create_app"
    ),
    "configuration": Entry(
        f"{_CONFIGURATION}.configuration:ConfigurationSettings", f"{_SERVICES}.infrastructure.configuration:create_app"
    ),
    "storage": Entry(f"{_CONFIGURATION}.storage:StorageSettings", f"{_SERVICES}.infrastructure.storage:create_app"),
    "database": Entry(
        f"{_CONFIGURATION}.database:DatabaseSettings", f"{_SERVICES}.integration.database.app:create_app"
    ),
    "vector_database": Entry(
        f"{_CONFIGURATION}.vector_database:VectorDatabaseSettings",
        f"{_SERVICES}.integration.vector_database.app:create_app",
    ),
    "cache": Entry(f"{_CONFIGURATION}.cache:CacheSettings", f"{_SERVICES}.integration.cache.app:create_app"),
    "metrics": Entry(f"{_CONFIGURATION}.metrics:MetricsSettings", f"{_SERVICES}.integration.metrics.app:create_app"),
}


def load(path: str) -> Any:
    """Return the object that "module:name" names."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def read_settings(name: str, file: Path | None = None, assignments: tuple[str, ...] = ()) -> Any:
    """Return the settings of service `name` from a YAML or JSON file and `key=value` assignments (values are YAML).

    Raises SettingsError that names the service, the key and the nearest right spelling.
    """
    if name not in ENTRIES:
        raise SettingsError(f"no service {name!r}", hint=nearest(name, ENTRIES))
    raw: dict[str, Any] = {"service": name} if ENTRIES[name] is _MODEL else {}
    lines: Mapping[str, int] = {}
    if file is not None:
        said, lines = _read_mapping(file)
        raw |= said
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"{text!r} is not key=value", hint=f"for example: hxp-stack serve {name} --set key=1")
        raw[key] = yaml.safe_load(value)
    model = load(ENTRIES[name].settings)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        key, problem, hint = explain(model, dict(error.errors()[0]))
        place = f"{file}:{lines[key]}: " if key in lines else ""
        raise SettingsError(f"{place}{name}: setting {key or 'settings'!r}: {problem}", hint=hint) from None


def _read_mapping(file: Path) -> tuple[dict[str, Any], Mapping[str, int]]:
    """Return what a YAML or JSON file (which is YAML) says, and the line of each key."""
    try:
        marked = read_marked(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not YAML: {error.reason}") from None
    except NotYaml as error:
        place = f"{file}:{error.line}" if error.line else str(file)
        raise SettingsError(f"{place} is not YAML: {error.problem}") from None
    if not isinstance(marked.tree, dict):
        raise SettingsError(f"{file} is not a mapping of settings")
    return marked.tree, marked.lines


def _place(file: Path | None, key: str) -> str:
    """Return "FILE:LINE: " of a key; where it does not stand in the file, the file."""
    if file is None:
        return ""
    lines = _read_mapping(file)[1]
    return f"{file}:{lines[key]}: " if key in lines else f"{file}: "


def serve(
    name: str, settings: Any, *, host: str, port: int, fd: int | None = None, source: reloading.Source | None = None
) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. With `fd`, on that listening socket; `port` 0 takes a free
    one. `source` is where the settings can be read again.

    Raises NotReady when the port is taken.
    """
    from reference_stack.draining import uvicorn_config
    from reference_stack.reloading import Reloader, ReloadingServer, Source, log_at

    source = source or Source(lambda: settings)

    # uvicorn raises the signal again when it has stopped: that is an orderly end, as is one before it serves.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    create = load(ENTRIES[name].app)
    sock = socket.socket(fileno=fd) if fd is not None else _listen(name, host, port)
    with sock:
        if ENTRIES[name].workers:
            from reference_stack.workers.run import run
            from reference_stack.workers.worker import Service

            def made(told: Any, place: Any) -> Any:
                log_at(told.log_level)
                return create(told, place=place)

            return run(Service(name, source.read, made, uvicorn_config), settings, sock)
        app = create(settings)
        ReloadingServer(uvicorn_config(app), Reloader(name, settings, source, app)).run(sockets=[sock])
    return 0


def _leave(*_: object) -> None:
    raise SystemExit(0)


def serve_file(name: str, file: Path | None, assignments: tuple[str, ...] = (), **where: Any) -> int:
    """Serve `name` with the settings in `file`; `where` is as in `serve`, the port being the documented one."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    from reference_stack.reloading import Source, log_at

    source = Source(lambda: read_settings(name, file, assignments), file, lambda key: _place(file, key))
    settings = source.read()
    log_at(settings.log_level)
    host, port = where.get("host", "127.0.0.1"), where.get("port")
    return serve(
        name,
        settings,
        host=host,
        port=load_catalogue()[name].port if port is None else port,
        fd=where.get("fd"),
        source=source,
    )


def _listen(name: str, host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise SettingsError(f"{name}: there is no port {port}", hint="0 to 65535; 0: a free one")
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise NotReady(
            f"{name}: cannot listen on {host}:{port}: {error.strerror}",
            hint=f"see who has it: ss -ltnp 'sport = :{port}'; or choose another: hxp-stack serve {name} --port 0",
        ) from None
    sock.listen(4096)
    return sock
