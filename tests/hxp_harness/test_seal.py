"""A stored run tells a changed byte, and which file it is in."""

import hashlib
from pathlib import Path

import pytest

from hxp_harness import evidence, seal
from hxp_harness.errors import InvalidRun, UsageError
from hxp_harness.report.record import RECORD_FILE, RECORD_HASH_FILE, Record, write_record
from hxp_harness.target import Evidence

FILES = (evidence.PROFILE, evidence.MANIFEST, evidence.TRACES, evidence.SERVER)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder with some files of a run and the record that seals them."""
    for name in FILES:
        (tmp_path / name).write_bytes(name.encode() * 100)
    bare = Record(id="run", started="2026-11-20T10:00:00+00:00", verdict="PASS", evidence=Evidence.SIMULATED)
    write_record(tmp_path, bare.model_copy(update={"files": seal.digests(tmp_path)}))
    return tmp_path


def test_an_untouched_run_is_verified(sealed: Path) -> None:
    """Every file that the record names is as it was, and so is the record."""
    assert set(seal.verify(sealed)) == {RECORD_FILE, *FILES}


@pytest.mark.parametrize("name", [RECORD_FILE, *FILES])
@pytest.mark.parametrize("place", [0, -1])
def test_a_changed_byte_is_told_with_its_file(sealed: Path, name: str, place: int) -> None:
    """One bit anywhere in a sealed file makes the run INVALID, by the file's name and no other's."""
    content = bytearray((sealed / name).read_bytes())
    content[place] ^= 1
    (sealed / name).write_bytes(content)

    with pytest.raises(InvalidRun) as told:
        seal.verify(sealed)

    assert f"{name} was changed" in str(told.value)
    assert [other for other in FILES if other != name and other in str(told.value)] == []


def test_a_file_taken_away_or_slipped_in_is_told(sealed: Path) -> None:
    """A missing file is named, and so is one that the record knows nothing of."""
    (sealed / evidence.SERVER).unlink()
    (sealed / evidence.END).write_text("{}", encoding="utf-8")

    with pytest.raises(InvalidRun, match=r"(?s)server\.json is missing.*end\.json was not there"):
        seal.verify(sealed)


def test_what_was_never_sealed_is_no_proof(sealed: Path) -> None:
    """A record without hashes, or whose own hash is gone, is not called verified; no record is a usage error."""
    bare = Record(id="run", started="2026-11-20T10:00:00+00:00", verdict="PASS", evidence=Evidence.SIMULATED)
    write_record(sealed, bare)
    with pytest.raises(InvalidRun, match="holds no hashes"):
        seal.verify(sealed)
    (sealed / RECORD_HASH_FILE).write_text("", encoding="utf-8")
    with pytest.raises(InvalidRun, match=r"run\.json was changed"):
        seal.verify(sealed)
    (sealed / RECORD_HASH_FILE).unlink()
    with pytest.raises(InvalidRun, match="nothing vouches"):
        seal.verify(sealed)
    (sealed / RECORD_FILE).unlink()
    with pytest.raises(UsageError, match=r"no run\.json"):
        seal.verify(sealed)


def test_the_hash_beside_the_record_is_what_sha256sum_reads(sealed: Path) -> None:
    """Anybody checks the record with `sha256sum -c`: the line is hash, two spaces, name."""
    hashed = hashlib.sha256((sealed / RECORD_FILE).read_bytes()).hexdigest()

    assert (sealed / RECORD_HASH_FILE).read_text(encoding="utf-8") == f"{hashed}  {RECORD_FILE}\n"
