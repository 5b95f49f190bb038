"""The environment of the tools that are compared, and a tokenizer for them that nothing has to fetch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(".hxp/cache/peers/load")
LOCK = Path("locks/peers-load.txt")
HUB = Path(".hxp/cache/peers/hub")


def prepare(say: Callable[[str], None]) -> int:
    """Install the lock into FOLDER, hashes checked (1.6 GB, minutes). PyTorch's build for the CPU must be findable."""
    uv = shutil.which("uv") or str(Path(".hxp/nox/bin/uv"))
    environ = os.environ | {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""), "VIRTUAL_ENV": str(FOLDER.resolve())}
    say(f"a new environment in {FOLDER}")
    subprocess.run([uv, "venv", "-q", "--clear", str(FOLDER), "--python", sys.executable], check=True)
    say(f"GuideLLM and AIPerf as {LOCK} pins them")
    argv = [uv, "pip", "install", "-q", "--require-hashes", "-r", str(LOCK)]
    return subprocess.run(argv, check=False, env={key: value for key, value in environ.items() if value}).returncode


def make_hub() -> str:
    """Make a Hugging Face cache in which a tiny model's tokenizer is hxp/tiny; return what is missing, or nothing."""
    models = sorted(Path(".hxp/cache/tiny").glob("mixtral-*/tokenizer.json"))
    if not models:
        return "no tiny model below .hxp/cache/tiny: ./nox -s perf_tiny makes one"
    commit = "0" * 40
    root = HUB / "hub" / "models--hxp--tiny"
    for folder in (root / "refs", root / "snapshots" / commit):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(commit, encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copyfile(models[0].with_name(name), root / "snapshots" / commit / name)
    return ""
