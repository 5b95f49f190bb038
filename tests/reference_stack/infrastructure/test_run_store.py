"""Runs kept by content: equal files once, whole or not at all whoever is killed, exported to wherever."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec  # type: ignore[import-untyped]  # the package has no types
import httpx
import pytest

from reference_stack.errors import NotReady, SettingsError
from reference_stack.services.infrastructure.export import export, flaws
from reference_stack.services.infrastructure.run_store import RunStore
from tests.reference_stack.infrastructure.conftest import eventually


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


def test_a_run_is_kept_whole_and_equal_files_once(store: RunStore, tmp_path: Path) -> None:
    """What was put is there again byte for byte; what two runs share takes its room once."""
    one, two = (make_run(tmp_path / f"run-{seed}", seed) for seed in (1, 2))
    first, second = store.put(one), store.put(two)

    assert [run.name for run in store.runs()] == ["run-1", "run-2"]
    assert store.run("run-1") == first
    assert first.files.keys() == second.files.keys()
    assert second.bytes == sum(each.stat().st_size for each in two.rglob("*.*"))
    assert len(objects(store)) == 5
    for key, (digest, _) in first.files.items():
        assert store.object(digest).read_bytes() == (one / key).read_bytes()
    assert store.flaws(first) == []
    assert store.put(one).files == first.files
    assert len(objects(store)) == 5


def test_what_changed_or_went_is_named(store: RunStore, tmp_path: Path) -> None:
    """Every byte is compared: a changed and a missing file are two flaws."""
    run = store.put(make_run(tmp_path / "run-1"))
    store.object(run.files["run.json"][0]).write_text("other")
    store.object(run.files["traces.parquet"][0]).unlink()

    assert {(flaw.file, flaw.problem) for flaw in store.flaws(run)} == {
        ("run.json", "is not what was stored"),
        ("traces.parquet", "is not there"),
    }


@pytest.mark.parametrize(
    ("keep", "left"), [({"newest": 1}, [3]), ({"newest": 0}, []), ({}, [1, 2, 3]), ({"younger_s": 3600.0}, [1, 2, 3])]
)
def test_old_runs_are_forgotten_and_their_room_is_free(
    store: RunStore, tmp_path: Path, keep: dict[str, float], left: list[int]
) -> None:
    """The newest or the younger stay, whole; of the others no byte is left."""
    for seed in (1, 2, 3):
        store.put(make_run(tmp_path / f"run-{seed}", seed))

    swept = store.clear(**keep)  # type: ignore[arg-type]  # each row gives what fits

    assert [run.name for run in store.runs()] == [f"run-{seed}" for seed in left]
    assert len(swept.runs) == 3 - len(left)
    assert len(objects(store)) == (2 * len(left) + 1 if left else 0)
    assert swept.objects == 7 - len(objects(store))
    assert [store.flaws(run) for run in store.runs()] == [[] for _ in left]


def test_age_and_number_keep_together(store: RunStore, tmp_path: Path) -> None:
    """A run stays that either rule keeps."""
    for seed in (1, 2):
        store.put(make_run(tmp_path / f"run-{seed}", seed))

    assert store.clear(newest=1, younger_s=0.0).runs == ("run-1",)


def test_what_is_no_run_is_refused(store: RunStore, tmp_path: Path) -> None:
    """A folder without a record, a bad name, a link out of the run and an unknown run are told apart."""
    with pytest.raises(SettingsError, match=r"no run\.json"):
        store.put(tmp_path)
    run = make_run(tmp_path / "run-1")
    with pytest.raises(SettingsError, match="is no name of a run"):
        store.put(run, "../escape")
    store.put(run)
    with pytest.raises(SettingsError, match="no run 'run-2'") as refused:
        store.run("run-2")
    assert refused.value.hint == "did you mean 'run-1'?"
    (run / "link").symlink_to("/etc/hostname")
    with pytest.raises(SettingsError, match="link leads out of the run"):
        store.put(run)


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


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a local server that speaks S3's API."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: server.poll() is not None or _answers(url), within_s=30)
            assert server.poll() is None
            yield url
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


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
