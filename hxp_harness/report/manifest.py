"""What a run was made with and on: versions, machine, state of the checkout. What cannot be read is said so."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import hxp_harness
from hxp_harness.report.hardware import UNKNOWN, hardware

_PACKAGES = ("locust", "numpy", "scipy", "pyarrow", "httptools", "fastapi", "uvicorn")


def environment() -> dict[str, str]:
    """Return facts about this machine and this installation, each a short text."""
    return {
        "harness": hxp_harness.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        **hardware(),
        "git": git_state(Path(hxp_harness.__file__).parent),
        "packages": " ".join(f"{name}=={version_of(name)}" for name in _PACKAGES),
    }


def version_of(package: str) -> str:
    """Return the installed version of a package, or that it is not known."""
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN


def git_state(folder: Path) -> str:
    """Return the commit of the checkout that `folder` is in, with +changes where it differs; unknown without one."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(folder), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return UNKNOWN
    return f"{commit}+changes" if git("status", "--porcelain") else commit
