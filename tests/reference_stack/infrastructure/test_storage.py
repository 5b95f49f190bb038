"""Model and run artefacts: what is listed, what is refused, and that nothing else can be reached."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.schemas.configuration.storage import StorageSettings
from reference_stack.services.infrastructure.artefacts import (
    flaws_of,
    format_flaws,
    manifest_flaws,
    write_manifest,
)
from reference_stack.services.infrastructure.run_store import RunStore
from reference_stack.services.infrastructure.safetensors import safetensors_problem
from reference_stack.services.infrastructure.storage import create_app
from tests.reference_stack.infrastructure.conftest import serving


def tensors(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


GOOD = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    "none": {"dtype": "F16", "shape": [0, 4], "data_offsets": [22, 22]},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A whole model, with its manifest."""
    folder = tmp_path / "models" / "phi3"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(tensors(GOOD, bytes(22)))
    write_manifest(folder)
    return folder


@contextmanager
def stored(**settings: object) -> Iterator[httpx.Client]:
    with serving(create_app(StorageSettings.model_validate(settings))) as url, httpx.Client(base_url=url) as http:
        yield http


def problems(folder: Path) -> dict[str, str]:
    return {flaw.file: flaw.problem for flaw in flaws_of(folder)}


def test_a_whole_model_is_listed_and_verified(model: Path) -> None:
    """A model with a true manifest and safe files has no flaw."""
    with stored(models=str(model.parent), least_free_bytes=0) as http:
        listed = http.get("/models").json()["models"]
        assert [(row["name"], row["manifest"], row["safe"]) for row in listed] == [("phi3", True, True)]
        assert (
            listed[0]["bytes"]
            == sum(path.stat().st_size for path in model.rglob("*.*son")) + (model / "model.safetensors").stat().st_size
        )
        assert http.get("/models/phi3").json() == listed[0]
        assert http.post("/models/phi3/verify").json() == {"name": "phi3", "whole": True, "flaws": []}
        assert http.get("/health").json()["status"] == "ready"
        assert http.get("/space").json()["models"] > 0
        assert 'hxp_storage_free_bytes{folder="models"}' in http.get("/metrics").text


@pytest.mark.owasp("LLM03:2025", "LLM04:2025")
def test_every_difference_from_the_manifest_is_named(model: Path) -> None:
    """A changed, a missing and an added file are three flaws."""
    (model / "config.json").write_text("{ }")
    (model / "sub" / "tokenizer.json").unlink()
    (model / "added.txt").write_text("x")

    assert problems(model) == {
        "config.json": "differs from its SHA-256 in the manifest",
        "sub/tokenizer.json": "is in the manifest but not in the folder",
        "added.txt": "is in the folder but not in the manifest",
    }


@pytest.mark.parametrize("line", ["x  config.json", "0" * 64 + "  ../escape", "0" * 64 + "  /etc/passwd", "0" * 64])
def test_a_manifest_that_is_none_is_refused(model: Path, line: str) -> None:
    """A line that is malformed or leads out of the folder is a flaw, and nothing outside is read."""
    manifest = model / "manifest.sha256"
    manifest.write_text(manifest.read_text() + line + "\n")

    assert "line 4" in problems(model)["manifest.sha256"]


def test_a_model_without_a_manifest_is_not_whole(model: Path) -> None:
    """What cannot be proven whole is not called whole."""
    (model / "manifest.sha256").unlink()

    assert problems(model) == {"manifest.sha256": "is missing or cannot be read"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pytorch_model.bin", b"x"),
        ("weights.PT", b"x"),
        ("old.ckpt", b"x"),
        ("innocent.json", pickle.dumps({"x": 1}, protocol=4)),
        ("archive.dat", b"PK\x03\x04" + bytes(100)),
    ],
)
def test_what_can_run_code_is_refused(model: Path, name: str, content: bytes) -> None:
    """Pickles are refused by name and by content, whatever the manifest says."""
    (model / name).write_bytes(content)
    write_manifest(model)

    assert list(problems(model)) == [name]


def test_a_link_out_of_the_folder_is_refused(model: Path, tmp_path: Path) -> None:
    """A link to a file or folder elsewhere is a flaw and is not followed."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.txt").write_text("x")
    (model / "link.txt").symlink_to(tmp_path / "elsewhere" / "x.txt")
    (model / "folder").symlink_to(tmp_path / "elsewhere")
    (model / "loop").symlink_to(model / "sub")

    listed = (model / "manifest.sha256").read_text() + "0" * 64 + "  link.txt\n"
    (model / "manifest.sha256").write_text(listed)

    refused = {flaw.file for flaw in format_flaws(model)}

    assert refused == {"link.txt", "folder", "loop"}
    assert "link.txt" not in {flaw.file for flaw in manifest_flaws(model)}


BROKEN = {
    "short": b"\x00\x00",
    "length beyond file": struct.pack("<Q", 1 << 40) + b"{}",
    "not json": tensors(b"{nope"),
    "no object": tensors([1]),
    "deep": tensors(b"[" * 100_000),
    "unknown type": tensors({"a": {"dtype": "X1", "shape": [1], "data_offsets": [0, 1]}}, b"x"),
    "negative side": tensors({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}}, b"x"),
    "bool side": tensors({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"x"),
    "wrong size": tensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 3]}}, b"xyz"),
    "backwards": tensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 0]}}, b"x"),
    "no offsets": tensors({"a": {"dtype": "U8", "shape": [1]}}, b"x"),
    "hole": tensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"xy"),
    "overlap": tensors(
        {
            "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
            "b": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]},
        },
        b"xy",
    ),
    "more data": tensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"xy"),
    "less data": tensors({"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}, b"xy"),
}


@pytest.mark.owasp("LLM03:2025")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_safetensors_file_is_refused(model: Path, name: str) -> None:
    """A header that does not fit its file is a flaw, found without loading a tensor."""
    (model / "model.safetensors").write_bytes(BROKEN[name])
    write_manifest(model)

    assert list(problems(model)) == ["model.safetensors"]


@given(st.binary(max_size=100))
def test_no_bytes_break_the_header_check(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever the bytes, there is an answer."""
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)

    assert isinstance(safetensors_problem(path), str)


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e", "..%2fsecret", "%2e%2e%2fsecret", ".hidden", "phi3%00", "no-such", "x" * 200, "file", "link"],
)
def test_nothing_outside_the_folders_can_be_reached(model: Path, tmp_path: Path, name: str) -> None:
    """A name is one folder directly below, or it is not found."""
    (tmp_path / "secret").mkdir()
    (model.parent / ".hidden").mkdir()
    (model.parent / "file").write_text("x")
    (model.parent / "link").symlink_to(tmp_path / "secret")
    with stored(models=str(model.parent), runs=str(model.parent), least_free_bytes=0) as http:
        for reply in (http.get(f"/models/{name}"), http.post(f"/models/{name}/verify"), http.get(f"/runs/{name}")):
            assert reply.status_code in (404, 405), reply.text
        assert [row["name"] for row in http.get("/models").json()["models"]] == ["phi3"]


def test_runs_are_listed_with_their_files(tmp_path: Path) -> None:
    """A run says whether it has its record, and which files it has."""
    run = tmp_path / "runs" / "2026-11-23-mixtral"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (tmp_path / "runs" / "torn").mkdir()
    with stored(runs=str(run.parent), least_free_bytes=0) as http:
        rows = http.get("/runs").json()["runs"]
        assert [(row["name"], row["record"], row["bytes"]) for row in rows] == [(run.name, True, 2), ("torn", False, 0)]
        assert http.get(f"/runs/{run.name}").json()["files"] == ["run.json"]
        assert http.get("/models").json() == {"models": []}


@pytest.mark.parametrize(
    ("settings", "problem"), [({"least_free_bytes": 1 << 62}, "bytes are free"), ({}, "not there")]
)
def test_not_ready_without_room_or_folder(tmp_path: Path, settings: dict[str, int], problem: str) -> None:
    """A full disk and a missing folder are named, and the process stays live."""
    folder = tmp_path if settings else tmp_path / "missing"
    with stored(models=str(folder), **settings) as http:
        reply = http.get("/health")
        assert (reply.status_code, problem in reply.json()["dependencies"]["models"]) == (503, True)
        assert http.get("/health/live").status_code == 200
        assert http.get("/models").status_code == 200
        assert http.get("/space").status_code == 200


def test_kept_runs_are_listed_and_verified(tmp_path: Path) -> None:
    """The service shows the runs that are kept by content, and says when one is not whole any more."""
    run = tmp_path / "run-1"
    run.mkdir()
    (run / "run.json").write_text("{}")
    store = RunStore(tmp_path / "store")
    kept = store.put(run)
    with stored(store=str(store.folder), least_free_bytes=0) as http:
        assert [row["name"] for row in http.get("/store").json()["runs"]] == ["run-1"]
        assert http.post("/store/run-1/verify").json() == {"name": "run-1", "whole": True, "flaws": []}
        store.object(kept.files["run.json"][0]).unlink()
        assert http.post("/store/run-1/verify").json()["whole"] is False
        assert http.post("/store/run-2/verify").status_code == 404
        assert http.get("/health").status_code == 200
        assert "hxp_storage_runs_kept 1.0" in http.get("/metrics").text
    with stored(least_free_bytes=0) as http:
        assert http.get("/store").json() == {"runs": []}
        assert http.post("/store/run-1/verify").status_code == 404
