"""Bringing models in: whole or not at all, going on where it was interrupted, with progress."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from reference_stack.errors import SettingsError
from reference_stack.services.infrastructure.artefacts import JOURNAL, MANIFEST, flaws_of, write_manifest
from reference_stack.services.infrastructure.digests import digests, sha256_of
from reference_stack.services.infrastructure.model_store import PART, import_model


def tensors(size: int) -> bytes:
    raw = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(raw)) + raw + os.urandom(size)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model of three files as it comes."""
    folder = tmp_path / "download" / "phi"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(tensors(300_000))
    return folder


def test_an_imported_model_is_whole(source: Path, tmp_path: Path) -> None:
    """Every file is there, the manifest is true, progress reaches the end, nothing else is left."""
    told: list[tuple[int, int]] = []

    target = import_model(source, tmp_path / "models", "phi", lambda done, total: told.append((done, total)))

    assert flaws_of(target) == []
    assert [path.name for path in target.parent.iterdir()] == ["phi"]
    assert (target / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert told[-1][0] == told[-1][1] == sum(path.stat().st_size for path in source.rglob("*.*"))
    with pytest.raises(SettingsError, match="is there already"):
        import_model(source, tmp_path / "models", "phi")


@pytest.mark.owasp("LLM04:2025")
def test_a_model_that_differs_from_its_manifest_is_refused(source: Path, tmp_path: Path) -> None:
    """A manifest that came along is believed over the files."""
    write_manifest(source)
    (source / "config.json").write_text("{ }")

    with pytest.raises(SettingsError, match=r"config\.json differs from its SHA-256"):
        import_model(source, tmp_path / "models", "phi")
    assert not (tmp_path / "models" / "phi").exists()

    (source / "config.json").write_text("{}")
    assert flaws_of(import_model(source, tmp_path / "models", "phi")) == []


@pytest.mark.owasp("LLM03:2025")
def test_what_can_run_code_is_not_brought_in(source: Path, tmp_path: Path) -> None:
    """A pickle is refused before a byte is copied."""
    (source / "pytorch_model.bin").write_bytes(b"x")

    with pytest.raises(SettingsError, match=r"pytorch_model\.bin is of a format that can run code"):
        import_model(source, tmp_path / "models", "phi")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["../x", "", ".hidden"])
def test_a_wrong_name_is_refused(source: Path, tmp_path: Path, name: str) -> None:
    """A name cannot lead out of the folder of models, nor hide in it."""
    with pytest.raises(SettingsError, match="is no name"):
        import_model(source, tmp_path / "models", name)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Without a source nothing is made."""
    with pytest.raises(SettingsError, match="there is no folder"):
        import_model(tmp_path / "none", tmp_path / "models", "phi")


def test_a_disk_that_is_too_small_is_said_before_copying(source: Path, tmp_path: Path) -> None:
    """A file of more bytes than the disk has (sparse: it takes no room) is not begun."""
    with (source / "huge.txt").open("wb") as file:
        file.truncate(2**43)

    with pytest.raises(SettingsError, match=r"bytes more and .* has room for"):
        import_model(source, tmp_path / "models", "phi")


_IMPORTING = """
import sys
from pathlib import Path
from reference_stack.services.infrastructure.model_store import import_model
import_model(Path(sys.argv[1]), Path(sys.argv[2]), "phi", lambda done, total: print(done, flush=True))
"""


@pytest.mark.parametrize("lines", [1, 3, 8, 13])
def test_a_killed_import_goes_on(source: Path, tmp_path: Path, lines: int) -> None:
    """After SIGKILL there is no model of that name; the next import takes over what is whole and ends as any other."""
    for number in range(6):
        (source / f"part-{number}.safetensors").write_bytes(tensors(5_000_000))
    models = tmp_path / "models"
    argv = [sys.executable, "-c", _IMPORTING, str(source), str(models)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as importing:
        assert importing.stdout is not None
        for _ in range(lines):
            assert importing.stdout.readline()
        importing.send_signal(signal.SIGKILL)
    assert not (models / "phi").exists()
    (models / f"{PART}phi" / "stale.txt").write_text("of an older import")

    assert flaws_of(import_model(source, models, "phi")) == []
    assert [path.name for path in models.iterdir()] == ["phi"]
    assert not (models / "phi" / "stale.txt").exists()


def test_digests_go_on_where_they_were_interrupted(source: Path, tmp_path: Path) -> None:
    """A noted digest serves while size and time are the same; a torn line and a changed file are read again."""
    files = {path.name: path for path in source.rglob("*.*")}
    journal = tmp_path / "journal"
    whole = digests(files, journal=journal)
    assert whole == {name: sha256_of(path) for name, path in files.items()}

    told: list[int] = []
    with journal.open("a") as file:
        file.write('["torn')
    assert digests(files, journal=journal, progress=lambda done, _: told.append(done)) == whole
    assert told == []

    (source / "config.json").write_text("other")
    again = digests(files, journal=journal, progress=lambda done, _: told.append(done))
    assert again["config.json"] == sha256_of(source / "config.json")
    assert len(told) == 1

    journal.write_bytes(b"\xff")
    assert digests(files, journal=journal) == again


def test_a_manifest_leaves_no_journal(source: Path) -> None:
    """The journal is there while the manifest is being made, is no part of the model, and goes."""
    (source / JOURNAL).write_text("")
    write_manifest(source)

    assert not (source / JOURNAL).exists()
    assert JOURNAL not in (source / MANIFEST).read_text()
