"""How a harness starts this stack: the command line behind the entry point group `hxp.stacks`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


def argv(want: Mapping[str, Any]) -> list[str]:
    """Return the command line that runs what is wanted.

    `want` has `folder` and may have `services` (none: all), `engine`, `weights`, `mock`, `options` (settings of the
    models) and `contract` (what will be asked of them: their rows then have `feasibility`). The command prints one line
    of JSON when all is ready, and ends with its standard input.
    """
    words = [sys.executable, "-m", "reference_stack", "up", "--foreground", "--json", "--ports", "free"]
    words += ["--folder", str(want["folder"])]
    for option in ("engine", "weights"):
        if want.get(option):
            words += [f"--{option}", str(want[option])]
    for name in want.get("services") or ():
        words += ["--only", str(name)]
    if want.get("mock"):
        words.append("--mock")
    if want.get("contract"):
        words += ["--contract", json.dumps(dict(want["contract"]))]
    for key, value in (want.get("options") or {}).items():
        words += ["--set", f"{key}={value}"]
    return words
