"""The seal of a stored run: SHA-256 of every file that its verdict stands on, so that a changed byte is told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from hxp_harness import evidence
from hxp_harness.errors import InvalidRun, UsageError
from hxp_harness.report.record import RECORD_FILE, RECORD_HASH_FILE, read_record

SEALED = (
    evidence.PROFILE,
    evidence.MANIFEST,
    evidence.SCHEDULE,
    "load.json",
    "load.done.json",
    evidence.CERTIFICATE_BEFORE,
    evidence.CERTIFICATE_AFTER,
    evidence.SERVER,
    evidence.SERVER_SERIES,
    evidence.CANARY,
    evidence.END,
    evidence.TRACES,
)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each sealed file that the run has, in hexadecimal, by name."""
    return {name: _sha256(folder / name) for name in SEALED if (folder / name).is_file()}


def verify(folder: Path) -> tuple[str, ...]:
    """Return the names of the files that are as the run left them.

    Raises InvalidRun that names each file that was changed, added or taken away; UsageError where there is no record.
    """
    if not (folder / RECORD_FILE).is_file():
        raise UsageError(f"no {RECORD_FILE} in {folder}", hint="give the folder of a finished run")
    if not (folder / RECORD_HASH_FILE).is_file():
        raise _broken(folder, [f"{RECORD_HASH_FILE} is missing, so nothing vouches for {RECORD_FILE}"])
    kept = (folder / RECORD_HASH_FILE).read_text(encoding="utf-8", errors="replace").split(maxsplit=1)
    if not kept or kept[0] != _sha256(folder / RECORD_FILE):
        raise _broken(folder, [f"{RECORD_FILE} was changed after it was written"])
    sealed = read_record(folder).files
    if not sealed:
        raise _broken(folder, [f"{RECORD_FILE} holds no hashes: it was written before records were sealed"])
    flaws = differences(sealed, digests(folder))
    if flaws:
        raise _broken(folder, flaws)
    return (RECORD_FILE, *sealed)


def differences(sealed: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return a sentence for each file whose hash is not the sealed one."""
    flaws = [f"{name} is missing" for name in sealed if name not in found]
    flaws += [f"{name} was changed after the run" for name in sealed if found.get(name, sealed[name]) != sealed[name]]
    return flaws + [f"{name} was not there when the run was judged" for name in found if name not in sealed]


def _broken(folder: Path, flaws: list[str]) -> InvalidRun:
    return InvalidRun(
        f"INVALID: {folder} is not as the run left it:\n" + "\n".join(f"  {flaw}" for flaw in flaws),
        hint="take the files from where the run was stored, or run again",
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
