"""The gateways that ours is measured against: fetched from packages, without root, into a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.gateway.programs import CannotRun

_LOCK = Path(__file__).parents[2] / "locks" / "peers-gateway.txt"
_FETCH_S = 600.0


def nginx(cache: Path, say: Callable[[str], None]) -> Path:
    """Return nginx: the one in PATH, else Debian's package unpacked into `cache`. Raises CannotRun."""
    in_path = shutil.which("nginx")
    unpacked = cache / "nginx" / "usr" / "sbin" / "nginx"
    if in_path is not None or unpacked.exists():
        return Path(in_path or unpacked)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise CannotRun("nginx is fetched with apt-get and dpkg-deb, which are not here; put nginx into PATH")
    say("fetching nginx")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        _run(["apt-get", "download", "nginx"], Path(folder), "apt-get update, or put nginx into PATH")
        package = next(Path(folder).glob("nginx_*.deb"))
        _run(["dpkg-deb", "-x", str(package), "unpacked"], Path(folder), "put nginx into PATH")
        (Path(folder) / "unpacked").rename(cache / "nginx")
    return unpacked


def python_peers(cache: Path, say: Callable[[str], None]) -> Path:
    """Return the folder of programs of an environment that has vllm-router and LiteLLM. Raises CannotRun.

    The environment is made of `locks/peers-gateway.txt`, hashes checked, and made anew when that file changes.
    """
    folder = cache / "python"
    made_of = folder / "made-of.txt"
    if made_of.exists() and made_of.read_bytes() == _LOCK.read_bytes():
        return folder / "bin"
    say(f"installing vllm-router and LiteLLM into {folder} (a minute or two)")
    uv = shutil.which("uv")
    python = folder / "bin" / "python"
    hint = f"see whether {_LOCK.name} can be installed by hand"
    if uv is not None:
        _run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)], None, hint)
        install = [uv, "pip", "install", "-q", "--python", str(python)]
    else:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], None, hint)
        install = [str(python), "-m", "pip", "install", "-q"]
    _run([*install, "--require-hashes", "-r", str(_LOCK)], None, hint)
    _run([str(python), "-m", "compileall", "-q", "-j", "1", str(folder / "lib")], None, hint, may_fail=True)
    made_of.write_bytes(_LOCK.read_bytes())
    return folder / "bin"


def _run(argv: list[str], folder: Path | None, hint: str, *, may_fail: bool = False) -> None:
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    try:
        done = subprocess.run(
            argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=_FETCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"{argv[0]} took longer than {_FETCH_S:g} s; {hint}") from None
    if done.returncode != 0 and not may_fail:
        raise CannotRun(f"{Path(argv[0]).name} failed: {done.stderr.strip()[-300:]}; {hint}")
