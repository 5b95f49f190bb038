"""The contract of the place where runs are kept: the mock in memory, the embedded folder, an external S3 server."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import fsspec  # type: ignore[import-untyped]  # the package has no types
import httpx
import pytest
from pydantic import SecretStr, ValidationError

from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration import ports
from reference_stack.schemas.configuration.storage import StorageSettings
from reference_stack.services.infrastructure import storage
from reference_stack.services.infrastructure.export import export, flaws
from reference_stack.services.infrastructure.remote_runs import RemoteRuns
from reference_stack.services.infrastructure.run_places import connect, runs_at
from reference_stack.services.infrastructure.run_store import RunStore
from reference_stack.services.infrastructure.runs import Runs
from tests.reference_stack.infrastructure.conftest import eventually, serving
from tests.reference_stack.infrastructure.s3 import s3_server
from tests.reference_stack.infrastructure.test_run_store import make_run

KEYS = {"key": "tests", "secret": "tests"}  # pragma: allowlist secret
PREFIX = "nightly"


def bucket_at(endpoint: str) -> str:
    """Make a bucket of its own; return its name."""
    bucket = f"runs-{time.monotonic_ns()}"
    fsspec.filesystem("s3", endpoint_url=endpoint, skip_instance_cache=True, **KEYS).mkdir(bucket)
    return bucket


def external(endpoint: str, bucket: str, **more: object) -> StorageSettings:
    said = {"backend": "external", "url": f"s3://{bucket}/{PREFIX}", "endpoint": endpoint, "least_free_bytes": 0}
    return StorageSettings.model_validate({**said, "access_key": KEYS["key"], "secret_key": KEYS["secret"], **more})


@pytest.fixture(params=["mock", "embedded", "external"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StorageSettings:
    """The settings of each leg."""
    if request.param == "external":
        endpoint = request.getfixturevalue("s3")
        return external(endpoint, bucket_at(endpoint), timeout_s=30)
    return StorageSettings(backend=request.param, store=tmp_path / "store", least_free_bytes=0)


@pytest.fixture
def runs(settings: StorageSettings) -> Runs:
    """An empty place on each leg; what no run names is cleared at once."""
    found = connect(settings)
    assert found is not None
    if isinstance(found, RemoteRuns):
        found._settles_s = 0.0
    return found


def content(runs: Runs, digest: str) -> bytes:
    with runs.read(digest) as file:
        return file.read()


def test_a_run_is_kept_byte_for_byte(runs: Runs, tmp_path: Path) -> None:
    """What was put is listed with its sizes, found whole, and read as it was."""
    source = make_run(tmp_path / "run-1")
    kept = runs.put(source)

    assert runs.runs() == [kept]
    assert runs.run("run-1") == kept
    assert runs.flaws(kept) == []
    assert kept.bytes == sum(each.stat().st_size for each in source.rglob("*.*"))
    for key, (digest, size) in kept.files.items():
        assert content(runs, digest) == (source / key).read_bytes()
        assert hashlib.sha256((source / key).read_bytes()).hexdigest() == digest
        assert (source / key).stat().st_size == size


def test_equal_files_are_kept_once_and_go_with_the_last_run(runs: Runs, tmp_path: Path) -> None:
    """Two runs share a file; it stays until neither needs it, and its room is counted once."""
    first, second = (runs.put(make_run(tmp_path / f"run-{seed}", seed)) for seed in (1, 2))
    (shared,) = {digest for digest, _ in first.files.values()} & {digest for digest, _ in second.files.values()}

    swept = runs.clear(newest=1)

    assert (swept.runs, swept.objects) == (("run-1",), 2)
    assert content(runs, shared) == b"the same in every run"
    assert runs.flaws(second) == []
    swept = runs.clear(newest=0)
    assert (swept.runs, swept.objects, swept.bytes) == (("run-2",), 3, second.bytes)
    assert runs.runs() == []
    with pytest.raises(NotReady, match="cannot be asked"):
        content(runs, shared)


def test_the_same_name_is_the_later_run(runs: Runs, tmp_path: Path) -> None:
    """Putting a name again replaces the run; what only the earlier one had is cleared."""
    runs.put(make_run(tmp_path / "a", 1), "nightly")
    later = runs.put(make_run(tmp_path / "b", 2), "nightly")

    assert runs.runs() == [later]
    assert runs.clear().objects == 2
    assert runs.flaws(later) == []


def test_the_oldest_comes_first_and_either_rule_keeps(runs: Runs, tmp_path: Path) -> None:
    """Runs are listed as they came; a run stays that the newest or the younger rule keeps, and without rules all do."""
    for seed in (1, 2, 3):
        runs.put(make_run(tmp_path / f"run-{seed}", seed))

    assert [run.name for run in runs.runs()] == ["run-1", "run-2", "run-3"]
    assert runs.clear().runs == ()
    assert runs.clear(newest=1, younger_s=3600).runs == ()
    assert runs.clear(newest=2, younger_s=0).runs == ("run-1",)
    assert [runs.flaws(run) for run in runs.runs()] == [[], []]


def test_what_is_no_run_is_refused(runs: Runs, tmp_path: Path) -> None:
    """No record, a bad name, a link that leads out and an unknown run are told apart, and nothing is kept."""
    with pytest.raises(SettingsError, match=r"no run\.json"):
        runs.put(tmp_path)
    source = make_run(tmp_path / "run-1")
    with pytest.raises(SettingsError, match="is no name of a run"):
        runs.put(source, "../escape")
    (source / "link").symlink_to("/etc/hostname")
    with pytest.raises(SettingsError, match="link leads out of the run"):
        runs.put(source)
    (source / "link").unlink()
    runs.put(source)
    with pytest.raises(SettingsError, match="no run 'run-2'") as refused:
        runs.run("run-2")
    assert refused.value.hint == "did you mean 'run-1'?"
    assert len(runs.runs()) == 1


def test_a_run_goes_on_to_another_place(runs: Runs, tmp_path: Path) -> None:
    """A kept run is exported whole from wherever it is kept."""
    where = export(runs, runs.put(make_run(tmp_path / "run-1")), str(tmp_path / "copy"))

    assert flaws(str(tmp_path / "copy"), "run-1") == []
    assert (Path(where) / "run.json").read_text() == '{"seed": 1}'


def test_progress_ends_at_the_whole(runs: Runs, tmp_path: Path) -> None:
    """Who wants to hear of it hears of every byte, when a run is put and when it is verified."""
    heard: list[tuple[int, int]] = []
    kept = runs.put(make_run(tmp_path / "run-1"), progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (kept.bytes, kept.bytes)
    heard.clear()
    runs.flaws(kept, lambda done, total: heard.append((done, total)))
    assert heard[-1] == (kept.bytes, kept.bytes)


def test_the_service_is_ready_and_shows_what_is_kept(settings: StorageSettings, tmp_path: Path) -> None:
    """Over HTTP: ready, the runs, whether one is whole, and how many there are."""
    with serving(storage.create_app(settings)) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert http.get("/store").json() == {"runs": []}
        assert http.post("/store/run-1/verify").status_code == 404
        if settings.backend != "mock":  # whose memory is the service's own
            other = connect(settings)
            assert other is not None
            other.put(make_run(tmp_path / "run-1"))
            assert [row["name"] for row in http.get("/store").json()["runs"]] == ["run-1"]
            assert http.post("/store/run-1/verify").json() == {"name": "run-1", "whole": True, "flaws": []}
        assert http.get("/health").json()["status"] == "ready"
        assert f"hxp_storage_runs_kept {float(settings.backend != 'mock')}" in http.get("/metrics").text


def damage(runs: Runs, digest: str, text: bytes | None) -> None:
    """Change or remove what lies under `digest`, past the place's own doors."""
    if isinstance(runs, RunStore):
        path = runs.object(digest)
        path.unlink() if text is None else path.write_bytes(text)
        return
    assert isinstance(runs, RemoteRuns)
    key = runs._object(digest)
    runs._files.rm_file(key) if text is None else runs._files.pipe_file(key, text)


def test_what_changed_or_went_is_named(runs: Runs, tmp_path: Path) -> None:
    """Every byte is compared: a changed and a missing file are two flaws, each by its name in the run."""
    kept = runs.put(make_run(tmp_path / "run-1"))
    damage(runs, kept.files["run.json"][0], b"other")
    damage(runs, kept.files["traces.parquet"][0], None)

    assert {(flaw.file, flaw.problem) for flaw in runs.flaws(kept)} == {
        ("run.json", "is not what was stored"),
        ("traces.parquet", "is not there"),
    }


_PUTTING = """
import sys
from pathlib import Path
from reference_stack.services.infrastructure.run_places import connect
from reference_stack.schemas.configuration.storage import StorageSettings
runs = connect(StorageSettings.model_validate_json(sys.argv[1]))
folders = sorted(Path(sys.argv[2]).iterdir())
print("putting", flush=True)
while True:
    for folder in folders:
        runs.put(folder)
        print("put", flush=True)
"""


def test_a_kill_leaves_only_whole_runs_at_the_other_side(s3: str, tmp_path: Path) -> None:
    """Killed at several points of sending, whatever is listed there is whole; what no run names is cleared later."""
    for seed in range(3):
        make_run(tmp_path / "runs" / f"run-{seed}", seed, size=300_000)
    settings = external(s3, bucket_at(s3), timeout_s=30)
    dumped = settings.model_dump_json().replace("**********", "tests")
    there = connect(settings)
    assert isinstance(there, RemoteRuns)
    for lines in (1, 2, 3):
        argv = [sys.executable, "-c", _PUTTING, dumped, str(tmp_path / "runs")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as putting:
            assert putting.stdout is not None
            for _ in range(lines):
                putting.stdout.readline()
            putting.send_signal(signal.SIGKILL)
        assert {run.name: there.flaws(run) for run in there.runs()} == {run.name: [] for run in there.runs()}
    assert len(there.runs()) >= 2
    young = there.clear(newest=0)
    assert len(young.runs) >= 2
    assert young.objects == 0, "an object that may belong to a run that is just being put was cleared"


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[tuple[int, StorageSettings]]:
    """A port on which an S3 server may be started, and settings that reach it within half a second."""
    with closing(ports.reserve()) as reservation:
        endpoint = f"http://127.0.0.1:{reservation.port}"
        yield reservation.port, external(endpoint, "runs", timeout_s=0.5, store=str(tmp_path / "unused"))


def test_a_store_that_is_away_is_said_and_found_again(mortal: tuple[int, StorageSettings], tmp_path: Path) -> None:
    """Down: every call is NotReady within its time, the service lives, is not ready and answers 503; a bucket that is
    not there is said; with both, it serves.
    """
    port, settings = mortal
    runs = connect(settings)
    assert runs is not None
    source = make_run(tmp_path / "run-1")
    with serving(storage.create_app(settings)) as url, httpx.Client(base_url=url, timeout=60) as http:
        began = time.monotonic()
        for call in (lambda: runs.put(source), runs.runs, lambda: runs.run("run-1"), runs.clear):
            with pytest.raises(NotReady, match=r"s3://runs/nightly cannot be asked"):
                call()
        assert "cannot be asked" in runs.ping()
        assert time.monotonic() - began < 30
        assert http.get("/health/live").status_code == 200
        reply = http.get("/health/ready")
        assert (reply.status_code, "cannot be asked" in reply.json()["dependencies"]["store"]) == (503, True)
        refused = http.get("/store")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        with s3_server(port) as endpoint:
            with pytest.raises(NotReady, match="bucket does not exist"):
                runs.put(source)
            fsspec.filesystem("s3", endpoint_url=endpoint, skip_instance_cache=True, **KEYS).mkdir("runs")
            eventually(lambda: http.get("/health/ready").status_code == 200)
            runs.put(source)
            assert [row["name"] for row in http.get("/store").json()["runs"]] == ["run-1"]


def test_a_place_is_named_by_its_folder_or_its_address(tmp_path: Path) -> None:
    """A path is a folder, an address a store; other schemes, and external without an address, are refused."""
    assert isinstance(runs_at(str(tmp_path)), RunStore)
    assert runs_at("memory://here").place == "memory://here"
    with pytest.raises(SettingsError, match="not kept at ftp://"):
        runs_at("ftp://example.invalid/x")
    with pytest.raises(ValidationError, match="needs the url"):
        StorageSettings(backend="external")
    with pytest.raises(ValidationError, match="url"):
        StorageSettings(backend="external", url="http://127.0.0.1/x")
    assert connect(StorageSettings()) is None
    assert "s3cret" not in repr(StorageSettings(secret_key=SecretStr("s3cret")))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A store that would lie below a file cannot keep runs."""
    (tmp_path / "file").write_text("")
    assert "cannot be written" in RunStore(tmp_path / "file" / "store").ping()
    assert RunStore(tmp_path / "new" / "store").ping() == ""
