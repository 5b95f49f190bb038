"""The storage service: which model and run artefacts there are, whether they are whole, and how much room is left."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Gauge

from reference_stack.errors import NotReady
from reference_stack.face import add_face
from reference_stack.schemas.configuration.storage import StorageSettings
from reference_stack.services.infrastructure.artefacts import MANIFEST, files_of, flaws_of, format_flaws
from reference_stack.services.infrastructure.run_places import connect
from reference_stack.services.infrastructure.runs import NAME


def create_app(settings: StorageSettings) -> FastAPI:
    """Return the service. It reads the two folders and writes nothing."""
    registry = CollectorRegistry()
    free = Gauge("hxp_storage_free_bytes", "Room left on the folder's disk.", ("folder",), registry=registry)
    wanted = {"models": settings.models, "runs": settings.runs}
    if settings.backend == "embedded":
        wanted["store"] = settings.store
    folders = {name: path for name, path in wanted.items() if path is not None}
    store = connect(settings)
    kept = Gauge("hxp_storage_runs_kept", "Runs in the store at the last check.", registry=registry)
    for name, path in folders.items():
        free.labels(name).set_function(lambda path=path: float(_free_bytes(path)))  # type: ignore[misc]  # bound now

    app = FastAPI(title="Storage", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/models")
    def models() -> dict[str, object]:
        """The models that are there, with their size and whether their files are of safe formats."""
        return {"models": [_model(path) for path in _entries(folders.get("models"))]}

    @app.get("/models/{name}")
    def model(name: str) -> dict[str, object]:
        return _model(_entry(folders.get("models"), name))

    @app.post("/models/{name}/verify")
    async def verify(name: str) -> dict[str, object]:
        """Read every byte of a model and compare it with its manifest."""
        path = _entry(folders.get("models"), name)
        flaws = await asyncio.to_thread(flaws_of, path)
        return {"name": name, "whole": not flaws, "flaws": [asdict(flaw) for flaw in flaws]}

    @app.get("/runs")
    def runs() -> dict[str, object]:
        return {"runs": [_run(path) for path in _entries(folders.get("runs"))]}

    @app.get("/runs/{name}")
    def run(name: str) -> dict[str, object]:
        path = _entry(folders.get("runs"), name)
        return {**_run(path), "files": [each.relative_to(path).as_posix() for each in files_of(path)]}

    @app.get("/store")
    def kept_runs() -> dict[str, object]:
        """The runs that are kept by content, oldest first."""
        runs = [] if store is None else store.runs()
        return {"runs": [{"name": run.name, "at_s": run.at_s, "bytes": run.bytes} for run in runs]}

    @app.post("/store/{name}/verify")
    async def verify_run(name: str) -> dict[str, object]:
        """Read every byte of a kept run and compare it with what was stored."""
        runs = [] if store is None else await asyncio.to_thread(store.runs)
        found = next((run for run in runs if run.name == name), None)
        if store is None or found is None:
            raise HTTPException(404, "there is nothing of that name")
        flaws = await asyncio.to_thread(store.flaws, found)
        return {"name": name, "whole": not flaws, "flaws": [asdict(flaw) for flaw in flaws]}

    @app.get("/space")
    def space() -> dict[str, object]:
        """Room left, in bytes, on the disk of each folder."""
        return {name: _free_bytes(path) for name, path in folders.items()}

    least_free_bytes = settings.least_free_bytes

    def look() -> Mapping[str, str]:
        found = {name: _problem(path, least_free_bytes) for name, path in folders.items()}
        if store is None:
            return found
        try:
            kept.set(len(store.runs()))
        except NotReady as error:
            return {**found, "store": error.message}
        return {"store": store.ping(), **found}

    async def check() -> Mapping[str, str]:
        return await asyncio.to_thread(look)

    @app.exception_handler(NotReady)
    async def not_ready(_request: Request, error: NotReady) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=503, headers={"Retry-After": "1"})

    async def take(new: StorageSettings) -> None:
        nonlocal least_free_bytes
        least_free_bytes = new.least_free_bytes

    app.state.take = take

    add_face(app, "storage", check, registry)
    return app


def _problem(folder: Path, least_free_bytes: int) -> str:
    if not folder.is_dir():
        return "the folder is not there"
    if _free_bytes(folder) < least_free_bytes:
        return f"less than {least_free_bytes} bytes are free"
    return ""


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _entries(folder: Path | None) -> list[Path]:
    if folder is None or not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if _is_entry(folder, path)]


def _entry(folder: Path | None, name: str) -> Path:
    """Return the folder of that name directly below `folder`; whatever else a name could lead to is not found."""
    if folder is not None and NAME.fullmatch(name) and _is_entry(folder, folder / name):
        return folder / name
    raise HTTPException(404, "there is nothing of that name")


def _is_entry(folder: Path, path: Path) -> bool:
    return path.is_dir() and path.resolve().parent == folder.resolve() and bool(NAME.fullmatch(path.name))


def _model(path: Path) -> dict[str, object]:
    flaws = format_flaws(path)
    return {
        "name": path.name,
        "bytes": _bytes(path),
        "manifest": (path / MANIFEST).is_file(),
        "safe": not flaws,
        "flaws": [asdict(flaw) for flaw in flaws],
    }


def _run(path: Path) -> dict[str, object]:
    return {"name": path.name, "bytes": _bytes(path), "record": (path / "run.json").is_file()}


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in files_of(folder))
