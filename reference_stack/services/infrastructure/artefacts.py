"""Whether a model's files are what they should be: all there, unchanged, and of a format that cannot run code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reference_stack.services.infrastructure.digests import Progress, digests, unheard
from reference_stack.services.infrastructure.durable import write_whole
from reference_stack.services.infrastructure.safetensors import safetensors_problem

MANIFEST = "manifest.sha256"
JOURNAL = ".manifest.part"
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"})
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong: the file, relative to the model's folder, and what."""

    file: str
    problem: str


def flaws_of(folder: Path, progress: Progress = unheard) -> list[Flaw]:
    """Return everything that is wrong with the model in `folder`. Reads every byte of it."""
    return [*format_flaws(folder), *manifest_flaws(folder, progress)]


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder`, manifest and journal left out, in a settled order."""
    found = sorted(folder.rglob("*"))
    own = {folder / MANIFEST, folder / JOURNAL}
    return (path for path in found if path.is_symlink() or not path.is_dir() if path not in own)


def format_flaws(folder: Path) -> list[Flaw]:
    """Return the files that could run code when loaded, lie elsewhere, or are broken safetensors."""
    flaws = []
    for path in files_of(folder):
        problem = _format_problem(path, folder)
        if problem:
            flaws.append(Flaw(path.relative_to(folder).as_posix(), problem))
    return flaws


def _format_problem(path: Path, folder: Path) -> str:
    if not _is_own(path, folder):
        return "is no plain file of this folder: a link that leads out of it, or something that cannot be read"
    if path.suffix.lower() in _PICKLES:
        return "is of a format that can run code when it is loaded; convert it to safetensors"
    return safetensors_problem(path) if path.suffix.lower() == ".safetensors" else _hidden_pickle(path)


def _hidden_pickle(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "is a pickle, whatever its name says; it can run code when it is loaded"
    if head == b"PK\x03\x04":
        return "is an archive, in which a pickle can hide"
    return ""


def manifest_flaws(folder: Path, progress: Progress = unheard) -> list[Flaw]:
    """Return how the files differ from the manifest (lines as of sha256sum: 64 hex digits, two spaces, a path)."""
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return [Flaw(MANIFEST, "is missing or cannot be read")]
    flaws = []
    listed: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or not _inside(match[2]) or match[2] in listed:
            flaws.append(Flaw(MANIFEST, f"line {number} is not `SHA256  PATH` with a new path inside the folder"))
        else:
            listed[match[2]] = match[1]
    present = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    flaws += [Flaw(name, "is in the manifest but not in the folder") for name in listed if name not in present]
    flaws += [Flaw(name, "is in the folder but not in the manifest") for name in present if name not in listed]
    comparable = {name: path for name, path in present.items() if name in listed and _is_own(path, folder)}
    found = digests(comparable, progress=progress)
    return flaws + [
        Flaw(name, "differs from its SHA-256 in the manifest") for name in comparable if found[name] != listed[name]
    ]


def _is_own(path: Path, folder: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def write_manifest(folder: Path, progress: Progress = unheard) -> Path:
    """Write the manifest of the files as they are now, and return its path.

    Files are read in parallel. One that is interrupted goes on where it stood: each digest is kept in a journal, and
    used again while the file's size and time are the same.
    """
    present = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    found = digests(present, journal=folder / JOURNAL, progress=progress)
    manifest = folder / MANIFEST
    write_whole(manifest, "".join(f"{found[name]}  {name}\n" for name in present).encode())
    (folder / JOURNAL).unlink(missing_ok=True)
    return manifest
