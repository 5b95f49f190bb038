"""Copies a stored run elsewhere: to a folder, an S3-compatible store, or whatever else fsspec can reach."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import fsspec  # type: ignore[import-untyped]  # the package has no types

from reference_stack.errors import NotReady, SettingsError
from reference_stack.services.infrastructure.runs import Runs, StoredRun

CATALOGUE = "catalogue.json"
_SCHEMES = ("file", "memory", "s3")


def export(store: Runs, run: StoredRun, url: str, options: Mapping[str, object] | None = None) -> str:
    """Copy `run` below `url` (file://, s3://BUCKET/..., memory://, or a path); return where it is.

    The catalogue of its files goes last: a copy without one is not whole. What is there already and the same is not
    sent again. Raises SettingsError for an unknown kind of URL, NotReady when the other side does not take it.
    """
    target, root = _opened(url, options or {})
    base = f"{root.rstrip('/')}/{run.name}"
    try:
        for name, (digest, size) in run.files.items():
            if not _same(target, f"{base}/{name}", digest, size):
                target.makedirs(f"{base}/{name}".rsplit("/", 1)[0], exist_ok=True)
                with store.read(digest) as source, target.open(f"{base}/{name}", "wb") as copy:
                    while block := source.read(4 * 1024 * 1024):
                        copy.write(block)
        target.pipe_file(f"{base}/{CATALOGUE}", json.dumps(asdict(run)).encode())
    except OSError as error:
        raise NotReady(f"{url} did not take the run: {error}", hint="check the address and the keys") from error
    return str(target.unstrip_protocol(base)).removeprefix("file://")


def flaws(url: str, name: str, options: Mapping[str, object] | None = None) -> list[str]:
    """Return which files of the copy of run `name` are missing or changed; the CATALOGUE when it is not whole."""
    target, root = _opened(url, options or {})
    base = f"{root.rstrip('/')}/{name}"
    if not target.exists(f"{base}/{CATALOGUE}"):
        return [CATALOGUE]
    files = json.loads(target.cat_file(f"{base}/{CATALOGUE}"))["files"]
    return [key for key, (digest, size) in files.items() if not _same(target, f"{base}/{key}", digest, size)]


def _opened(url: str, options: Mapping[str, object]) -> tuple[fsspec.AbstractFileSystem, str]:
    scheme = url.split("://", 1)[0] if "://" in url else "file"
    if scheme not in _SCHEMES:
        raise SettingsError(f"{url}: runs are not exported to {scheme}://", hint="a path, or s3://BUCKET/PREFIX")
    try:
        target, root = fsspec.core.url_to_fs(url, **options)
    except ImportError:
        hint = "pip install 'hxp-enterprise-llm-modular[s3]'"
        raise SettingsError(f"{url}: what speaks S3 is not installed", hint=hint) from None
    return target, str(root)


def _same(target: fsspec.AbstractFileSystem, path: str, digest: str, size: int) -> bool:
    if not target.exists(path) or target.size(path) != size:
        return False
    found = hashlib.sha256()
    with target.open(path, "rb") as copy:
        while block := copy.read(4 * 1024 * 1024):
            found.update(block)
    return found.hexdigest() == digest
