"""What a master and its workers must have in common: one version, one Python, one text of the load engine."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

import hxp_harness


def own_build() -> dict[str, str]:
    """Return version, Python and a hash over the source of the load engine."""
    source = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source.update(file.name.encode() + b"\0" + file.read_bytes())
    python = ".".join(platform.python_version_tuple()[:2])
    return {"hxp": hxp_harness.__version__, "Python": python, "load engine": source.hexdigest()[:12]}


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return a phrase for each thing that differs, ours second."""
    return [
        f"{name} {theirs.get(name, 'unknown')} instead of {own}"
        for name, own in ours.items()
        if theirs.get(name) != own
    ]
