"""Runs kept by content: equal files once, whole or not at all whoever is killed, exported to wherever."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import fsspec  # type: ignore[import-untyped]  # the package has no types
import pytest

from reference_stack.errors import NotReady, SettingsError
from reference_stack.services.infrastructure.export import export, flaws
from reference_stack.services.infrastructure.run_store import RunStore


def make_run(folder: Path, seed: int = 1, size: int = 1000) -> Path:
    """Write a run of three files, one of them the same in every run."""
    (folder / "allure").mkdir(parents=True)
    (folder / "run.json").write_text(f'{{"seed": {seed}}}')
    (folder / "traces.parquet").write_bytes(random.Random(seed).randbytes(size))
    (folder / "allure" / "environment.properties").write_text("the same in every run")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "store")


def objects(store: RunStore) -> list[Path]:
    return sorted((store.folder / "objects").glob("*/*"))


def test_a_disk_that_is_too_small_is_said(store: RunStore, tmp_path: Path) -> None:
    """A run of more bytes than the disk has (sparse: it takes no room) is not begun."""
    run = make_run(tmp_path / "run-1")
    with (run / "huge").open("wb") as file:
        file.truncate(2**43)

    with pytest.raises(SettingsError, match="has room for"):
        store.put(run)
    assert store.runs() == []


_PUTTING = """
import sys
from pathlib import Path
from reference_stack.services.infrastructure.run_store import RunStore
store = RunStore(Path(sys.argv[1]))
runs = sorted(Path(sys.argv[2]).iterdir())
store.put(runs[0])
print("putting", flush=True)
while True:
    for run in runs:
        store.put(run)
    store.clear(newest=2)
"""


def test_nothing_half_written_after_sigkill(tmp_path: Path) -> None:
    """Killed at 25 random points of putting and clearing, the store never has a run that is not whole."""
    for seed in range(4):
        make_run(tmp_path / "runs" / f"run-{seed}", seed, size=200_000)
    chance = random.Random(7)
    store = RunStore(tmp_path / "store")
    seen = 0
    for _ in range(25):
        argv = [sys.executable, "-c", _PUTTING, str(store.folder), str(tmp_path / "runs")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as putting:
            assert putting.stdout is not None
            putting.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))  # the point at which it is killed is what is drawn
            putting.send_signal(signal.SIGKILL)
        seen += len(store.runs())
        assert {run.name: store.flaws(run) for run in store.runs()} == {run.name: [] for run in store.runs()}
    assert seen >= 25
    store.clear(newest=1)
    (left,) = store.runs()
    assert {path.name for path in objects(store)} == {digest for digest, _ in left.files.values()}
    assert not list(store.folder.rglob(".draft-*"))


@dataclass(frozen=True)
class Place:
    """Where runs are exported to, and the options that reach it."""

    url: str
    options: dict[str, object]


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of each kind: a folder, the mock in memory, an S3-compatible server."""
    if request.param == "folder":
        return Place(str(tmp_path / "exported"), {})
    if request.param == "memory":
        return Place(f"memory://{tmp_path.name}", {})
    options = {"endpoint_url": request.getfixturevalue("s3"), "key": "tests", "secret": "tests"}
    bucket = f"runs-{time.monotonic_ns()}"
    fsspec.filesystem("s3", **options).mkdir(bucket)
    return Place(f"s3://{bucket}/nightly", options)


def test_an_exported_run_is_whole_there(store: RunStore, tmp_path: Path, place: Place) -> None:
    """The copy has every file; without its catalogue, or with a file changed, it is not called whole."""
    run = store.put(make_run(tmp_path / "run-1"))
    assert flaws(place.url, "run-1", place.options) == ["catalogue.json"]

    where = export(store, run, place.url, place.options)

    assert flaws(place.url, "run-1", place.options) == []
    assert export(store, run, place.url, place.options) == where
    target, root = fsspec.core.url_to_fs(where, **place.options)
    assert target.cat_file(f"{root}/run.json") == b'{"seed": 1}'
    target.pipe_file(f"{root}/run.json", b'{"seed": 2}')
    target.rm_file(f"{root}/allure/environment.properties")
    target.invalidate_cache()
    assert sorted(flaws(place.url, "run-1", place.options)) == ["allure/environment.properties", "run.json"]
    export(store, run, place.url, place.options)
    assert flaws(place.url, "run-1", place.options) == []


def test_a_place_that_cannot_be_reached_is_said(store: RunStore, tmp_path: Path) -> None:
    """An unknown scheme is a wrong question; a place that does not take the run is not ready."""
    run = store.put(make_run(tmp_path / "run-1"))
    with pytest.raises(SettingsError, match="not exported to ftp://"):
        export(store, run, "ftp://example.invalid/x")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReady, match="did not take the run"):
        export(store, run, str(tmp_path / "file"))
