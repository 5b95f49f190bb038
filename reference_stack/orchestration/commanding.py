"""Commands to the parent of a running gateway: renew its workers, reload its settings, drain it, show it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from reference_stack.errors import StackError
from reference_stack.orchestration.deployment.infrastructure import control_path
from reference_stack.workers.control import command

_ANSWER_S = 120.0
_DONE = {"restart": "all workers are new", "reload": "the configuration is in force", "drain": "it ends"}


def run(action: str, folder: Path, control: Path | None, *, as_json: bool) -> int:
    """Give the gateway of the stack in `folder`, or the one that listens at `control`, a command; return 0.

    Raises NotReady when there is none, and StackError with its reason when it refuses.
    """
    began = time.monotonic()
    answer = command(control or control_path(folder), action, _ANSWER_S)
    if not answer["ok"]:
        hint = "the configuration in force stays; mend the file and try again" if action == "reload" else "read its log"
        raise StackError(answer["error"], hint=hint)
    if action != "status":
        print(f"{_DONE[action]} ({time.monotonic() - began:.1f} s)")
    else:
        print(json.dumps(answer) if as_json else _table(answer))
    return 0


def _table(answer: dict[str, Any]) -> str:
    rows = [
        ("PID", "STATE", "AGE"),
        *((str(row["pid"]), row["state"], f"{row['age_s']} s") for row in answer["workers"]),
    ]
    lines = [f"{pid:<8}  {state:<8}  {age}" for pid, state, age in rows]
    return "\n".join([f"parent {answer['pid']}, renewed {answer['generation']} times", *lines])
