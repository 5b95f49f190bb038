"""Brings a model's files into the folder of models: checked, copied, and there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from reference_stack.errors import SettingsError
from reference_stack.services.infrastructure.artefacts import (
    MANIFEST,
    files_of,
    format_flaws,
    manifest_flaws,
    write_manifest,
)
from reference_stack.services.infrastructure.digests import Progress, unheard
from reference_stack.services.infrastructure.durable import sync_folder
from reference_stack.services.infrastructure.runs import NAME

PART = ".part-"
_BLOCK = 4 * 1024 * 1024


def import_model(source: Path, models: Path, name: str, progress: Progress = unheard) -> Path:
    """Copy the model in `source` to `models`/`name`, write or check its manifest, and return the folder.

    An import that was interrupted goes on with the files that are not there yet. Raises SettingsError when a file is
    of a format that can run code or broken, differs from the manifest that came with it, or the disk is too small.
    """
    if not NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name of a model", hint="letters, digits, dots, dashes, underscores")
    if not source.is_dir():
        raise SettingsError(f"there is no folder {source}")
    target, part = models / name, models / f"{PART}{name}"
    if target.exists():
        raise SettingsError(f"{target} is there already", hint=f"hxp-stack storage verify {name}")
    _refuse_flaws(source, [f"{flaw.file} {flaw.problem}" for flaw in format_flaws(source)])
    part.mkdir(parents=True, exist_ok=True)
    _copy(source, part, progress)
    if (source / MANIFEST).is_file():
        shutil.copyfile(source / MANIFEST, part / MANIFEST)
        _refuse_flaws(source, [f"{flaw.file} {flaw.problem}" for flaw in manifest_flaws(part, progress)])
    else:
        write_manifest(part, progress)
    part.rename(target)
    sync_folder(models)
    return target


def _refuse_flaws(source: Path, flaws: list[str]) -> None:
    if flaws:
        more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
        raise SettingsError(f"{source}: {flaws[0]}{more}", hint="nothing was imported")


def _copy(source: Path, part: Path, progress: Progress) -> None:
    wanted = {path.relative_to(source): path.stat() for path in files_of(source)}
    for path in list(files_of(part)):  # of an import of something else, or of a file that has changed since
        found = wanted.get(path.relative_to(part))
        if found is None or (path.stat().st_size, path.stat().st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            path.unlink()
    missing = [name for name in wanted if not (part / name).exists()]
    need, free = sum(wanted[name].st_size for name in missing), shutil.disk_usage(part).free
    if need > free:
        raise SettingsError(f"{source} needs {need} bytes more and {part.parent} has room for {free}")
    total = sum(found.st_size for found in wanted.values())
    done = total - need
    for name in missing:
        for copied in _copy_one(source / name, part / name):
            done += copied
            progress(done, total)


def _copy_one(source: Path, target: Path) -> Iterator[int]:
    """Copy one file; it has its time only when it is whole, and that is how a later import tells."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(_BLOCK):
            writing.write(block)
            yield len(block)
        writing.flush()
        os.fsync(writing.fileno())
    stamp = source.stat()
    os.utime(target, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
