"""`hxp-stack status --watch`: the table again and again, with what each service says of its health."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from reference_stack.orchestration import state as states
from reference_stack.orchestration.operational import table

Row = Mapping[str, object]
_EVERY_S = 1.0
_ANSWER_S = 2.0
_CLEAR = "\x1b[H\x1b[2J"  # home, and clear
_DOWN = 5


def watch(folder: Path) -> int:
    """Show the stack of `folder` every second until Ctrl-C or its end; return 5 when it has ended.

    In a terminal each view takes the place of the last; elsewhere a view is written when it differs from the last.
    """
    try:
        return _watch(folder)
    except BrokenPipeError:  # whoever read has seen enough: head, or a closed pager
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _watch(folder: Path) -> int:
    screen, last = sys.stdout.isatty(), ""
    while True:
        state = states.read(folder)
        if state is None or not state.alive:
            print(f"nothing runs in {folder}" if state is None else "its supervisor was killed, and all with it")
            return _DOWN
        view = page(state)
        if screen:
            print(f"{_CLEAR}{view}\n\n{time.strftime('%H:%M:%S')}, every {_EVERY_S:g} s; Ctrl-C ends this", flush=True)
        elif view != last:
            print(view, end="\n\n", flush=True)
        last = view
        time.sleep(_EVERY_S)  # looks at what the supervisor writes


def page(state: states.StackState) -> str:
    """Return the table, and below it what ails the services and which alerts fire, as monitoring has it."""
    said = _monitoring(state.services)
    lines = [table(state)]
    ailing = [row for row in said.get("services", ()) if row["state"] not in ("ready", "unknown")]
    lines += [f"{row['state']}: {row['name']}: {row['problem']}" for row in ailing]
    firing = [row for row in said.get("alerts", ()) if row["firing"]]
    lines += [f"alert: {row['name']}: {row['summary']}{' (silenced)' if row['silenced'] else ''}" for row in firing]
    return "\n".join(lines)


def _monitoring(services: Mapping[str, Mapping[str, object]]) -> Mapping[str, Sequence[Row]]:
    url = str(services.get("monitoring", {}).get("health_url", "")).removesuffix("/health")
    if not url.startswith("http://"):
        return {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a neighbour: no proxy
    try:
        with opener.open(f"{url}/status", timeout=_ANSWER_S) as answer:
            said: Mapping[str, Sequence[Row]] = json.load(answer)
            return said
    except (OSError, ValueError, urllib.error.URLError) as error:
        return {"services": [{"name": "monitoring", "state": "down", "problem": f"cannot be asked: {error}"}]}
