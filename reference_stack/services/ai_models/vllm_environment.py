"""Installs real vLLM for the CPU into an environment of its own, from committed locks with hashes.

The published wheel needs three repairs: packages that we leave out (the lock has none of them), a distribution called
`vllm` whose version its own command asks for, and on processors with AMX a call before the first prefill, without
which a bf16 engine can die of an illegal instruction. The last two are one small distribution that is written here;
its plugin also lets vLLM's engine process die with the server that started it, where HXP_DIE_WITH_PARENT is 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import reference_stack
from reference_stack.errors import NotReady

log = logging.getLogger(__name__)
Say = Callable[[str], None]

DEFAULT_FOLDER = Path(".hxp/vllm-cpu")
_STAMP = "hxp-stamp.json"
_PLUGIN = '''"""Loaded by vLLM in each of its processes: prepares AMX, and ties the process to its parent."""


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
_ENTRY_POINTS = "[vllm.general_plugins]\nhxp_amx = hxp_vllm_amx:register\n"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is installed: two locks with hashes, and the version that `vllm --version` must name."""

    torch: Path
    rest: Path
    version: str = "0.32.0+cpu"

    @property
    def fingerprint(self) -> str:
        """A digest of all that the environment is made from."""
        parts = [self.torch.read_bytes(), self.rest.read_bytes(), self.version.encode(), _PLUGIN.encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()


def default_recipe() -> Recipe:
    """Return the committed recipe; raise NotReady where the locks are not beside the package."""
    package = Path(reference_stack.__file__).parent
    for folder in (package / "locks", package.parent / "locks"):
        if (folder / "vllm-cpu.txt").exists():
            return Recipe(folder / "vllm-cpu-torch.txt", folder / "vllm-cpu.txt")
    raise NotReady("the lock of vLLM's environment, locks/vllm-cpu.txt, is not there", hint="run from a clone")


def vllm_program(folder: Path) -> Path:
    """Return the `vllm` command of the environment in `folder`."""
    return folder.resolve() / "bin" / "vllm"


def is_installed(folder: Path, recipe: Recipe | None = None) -> bool:
    """Say whether `folder` holds a whole environment of the recipe."""
    recipe = recipe or default_recipe()
    try:
        stamp = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp == {"fingerprint": recipe.fingerprint} and vllm_program(folder).exists()


def install(folder: Path = DEFAULT_FOLDER, say: Say = log.info, recipe: Recipe | None = None) -> Path:
    """Install the environment into `folder` unless it is there whole, and return its `vllm` command.

    Takes half a minute to two minutes and 1.6 GB; `say` hears of each step. A second caller waits for the first.
    Raises NotReady that says which step failed, with the last words of the tool.
    """
    recipe = recipe or default_recipe()
    if is_installed(folder, recipe):
        return vllm_program(folder)
    _check_platform()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not is_installed(folder, recipe):
            _install(folder, say, recipe)
    return vllm_program(folder)


def _install(folder: Path, say: Say, recipe: Recipe) -> None:
    _clear(folder)
    python = str(folder.resolve() / "bin" / "python")
    say(f"vLLM's environment 1/5: a new environment in {folder}")
    _run("making the environment", [sys.executable, "-m", "venv", str(folder)], hint="apt-get install python3-venv")
    say("vLLM's environment 2/5: PyTorch for the CPU (200 MB)")
    _install_torch(python, recipe)
    say("vLLM's environment 3/5: vLLM and what it needs (140 packages)")
    tool = [*uv, "pip", "install", "-q", "--python", python] if (uv := _find_uv()) else _pip(python)
    _run("installing vLLM", [*tool, "--no-deps", "--require-hashes", "-r", str(recipe.rest)])
    say("vLLM's environment 4/5: repairs")
    _write_repairs(Path(_run("asking Python", [python, "-c", _PURELIB]).strip()), recipe.version)
    say("vLLM's environment 5/5: vllm --version")
    _verify(folder, recipe)
    (folder / _STAMP).write_text(json.dumps({"fingerprint": recipe.fingerprint}), encoding="utf-8")


def _verify(folder: Path, recipe: Recipe) -> None:
    found = _run("starting vLLM", [str(vllm_program(folder)), "--version"])
    if recipe.version not in found:
        raise NotReady(f"vllm --version says {found.strip()[-100:]!r}, not {recipe.version}", hint=f"rm -r {folder}")


_PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


def _install_torch(python: str, recipe: Recipe) -> None:
    hashed = ["--no-deps", "--require-hashes", "-r", str(recipe.torch)]
    try:
        # pip first: it may be configured with a folder of wheels, which uv does not read.
        _run("installing PyTorch", [*_pip(python), *hashed])
    except NotReady as error:
        uv = _find_uv()
        if not uv:
            error.hint = (
                "pip install uv, which knows where PyTorch for the CPU lies; or pip config set install.find-links"
            )
            raise
        argv = [*uv, "pip", "install", "-q", "--python", python, "--torch-backend", "cpu", *hashed]
        _run("installing PyTorch", argv, hint="the machine needs PyTorch's CPU index, or the wheel in pip's find-links")


def _pip(python: str) -> list[str]:
    return [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]


def _find_uv() -> list[str]:
    """Return the command of uv, which is ten times as fast as pip, or nothing."""
    beside = Path(sys.executable).with_name("uv")
    if beside.exists():
        return [str(beside)]
    if found := shutil.which("uv"):
        return [found]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def _run(what: str, argv: Sequence[str], hint: str = "") -> str:
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "PIP_NO_INPUT": "1"}
    result = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()[-5:]
        raise NotReady(
            f"{what} failed ({' '.join(argv[:4])} ...):\n  " + "\n  ".join(lines),
            hint=hint or "is the package registry reachable, and are there 3 GB of disk? Then try again",
        )
    return result.stdout


def _write_repairs(site: Path, version: str) -> None:
    (site / "hxp_vllm_amx.py").write_text(_PLUGIN, encoding="utf-8")
    information = site / f"vllm-{version}.dist-info"
    information.mkdir(exist_ok=True)
    metadata = (
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\nSummary: Names vllm-cpu as vllm; prepares AMX.\n"
    )
    (information / "METADATA").write_text(metadata, encoding="utf-8")
    (information / "entry_points.txt").write_text(_ENTRY_POINTS, encoding="utf-8")


def _clear(folder: Path) -> None:
    if not folder.exists():
        return
    if any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise NotReady(f"{folder} is there and is no Python environment", hint="choose another folder, or move it away")
    shutil.rmtree(folder)


def _check_platform() -> None:
    here = (sys.platform, platform.machine(), sys.version_info[:2])
    if here != ("linux", "x86_64", (3, 11)):
        raise NotReady(
            f"vLLM's lock is for CPython 3.11 on Linux x86-64, and this is Python {platform.python_version()} on "
            f"{sys.platform} {platform.machine()}",
            hint="use --engine sim, or a Python 3.11",
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
