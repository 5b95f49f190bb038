"""Whether a model's files are what they should be: all there, unchanged, and of a format that cannot run code."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MANIFEST = "manifest.sha256"
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"})
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_LONGEST_HEADER = 100_000_000
_BITS: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
}


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong: the file, relative to the model's folder, and what."""

    file: str
    problem: str


def flaws_of(folder: Path) -> list[Flaw]:
    """Return everything that is wrong with the model in `folder`. Reads every byte of it."""
    return [*format_flaws(folder), *manifest_flaws(folder)]


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder`, the manifest left out, in a settled order."""
    found = sorted(folder.rglob("*"))
    return (path for path in found if path.is_symlink() or not path.is_dir() if path != folder / MANIFEST)


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


def manifest_flaws(folder: Path) -> list[Flaw]:
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
    return flaws + [
        Flaw(name, "differs from its SHA-256 in the manifest")
        for name, path in present.items()
        if name in listed and _is_own(path, folder) and sha256_of(path) != listed[name]
    ]


def _is_own(path: Path, folder: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> Path:
    """Write the manifest of the files as they are now, and return its path."""
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files_of(folder)]
    manifest = folder / MANIFEST
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest


def safetensors_problem(path: Path) -> str:
    """Return what is wrong with a safetensors file's header, or "". Reads the header alone.

    Format: 8 bytes of little-endian length, so much JSON, then the tensors back to back with no hole or overlap.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            return "its safetensors header is longer than the file or 100 MB"
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        return "its safetensors header is not JSON"
    if not isinstance(header, dict):
        return "its safetensors header is not an object"
    return _tensors_problem({name: row for name, row in header.items() if name != "__metadata__"}, size - 8 - length)


def _tensors_problem(tensors: Mapping[str, object], data_bytes: int) -> str:
    spans = []
    for row in tensors.values():
        span = _span(row)
        if span is None:
            return "its safetensors header describes a tensor whose type, shape and place do not fit together"
        spans.append(span)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            return "its safetensors header leaves a hole or lays tensors over each other"
        end = stop
    return "" if end == data_bytes else "its tensors do not fill the file exactly"


def _span(row: object) -> tuple[int, int] | None:
    match row:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if kind in _BITS:
            if not all(type(side) is int and side >= 0 for side in shape) or not 0 <= start <= stop:
                return None
            bits = math.prod(shape) * _BITS[kind]
            return (start, stop) if bits == 8 * (stop - start) else None
        case _:
            return None
