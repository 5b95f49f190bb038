"""A running stack reads its configuration again: when a file of it changes, and when somebody asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration import state as states
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.supervisor import Supervisor
from reference_stack.schemas.configuration.layers import stamp_of
from reference_stack.schemas.configuration.problem import InvalidConfiguration

log = logging.getLogger(__name__)
_LOOK_S = 1.0
_ANSWER_S = 10.0
_POLL_S = 0.02


def asked_for() -> asyncio.Event:
    """Return an event that is set when somebody asks for it: SIGUSR1, since SIGHUP is the end of a terminal."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
    return asked


async def watch(room: Room, supervisor: Supervisor, mine: states.StackState, asked: asyncio.Event) -> None:
    """Reread whenever it is `asked` for, and when a file of the configuration is another one, until cancelled."""
    seen = _stamps(room)
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await asked.wait()
        before, seen = seen, _stamps(room)
        if asked.is_set() or seen != before:
            asked.clear()
            await _reread(room, supervisor, mine)


async def _reread(room: Room, supervisor: Supervisor, mine: states.StackState) -> None:
    """Write the settings files anew and tell those whose changed; what is wrong changes nothing."""
    try:
        mine.changed = tuple(await asyncio.to_thread(room.reread))
        mine.refused = ()
    except InvalidConfiguration as error:
        mine.changed, mine.refused = (), tuple(str(problem) for problem in error.problems)
    for text in mine.refused:
        log.error("the configuration in force stays: %s", text)
    for name in mine.changed:
        log.info("new settings for %s", name)
        supervisor.process(name).signal(signal.SIGHUP)
    mine.reloads += 1
    states.write(room.want.folder, mine)


def _stamps(room: Room) -> list[tuple[int, ...]]:
    return [stamp_of(file) for file in (room.want.environment, room.want.host_file) if file is not None]


def reload(folder: Path) -> int:
    """Ask the stack in `folder` to read its configuration again; return 0.

    Raises NotReady when none runs, and SettingsError with every problem when the configuration in force stays.
    """
    state = states.read(folder)
    if state is None or not state.alive or state.phase != "ready":
        raise NotReady(f"no stack that serves in {folder}", hint=f"hxp-stack status --folder {folder}")
    before = state.reloads
    os.kill(state.pid, signal.SIGUSR1)
    ends = time.monotonic() + _ANSWER_S
    while state is None or state.reloads == before:
        if time.monotonic() > ends:
            raise NotReady("the supervisor did not answer", hint=f"read {folder / 'supervisor.log'}")
        time.sleep(_POLL_S)  # looks at what the supervisor writes
        state = states.read(folder)
    if state.refused:
        print("\n".join(state.refused[1:]), file=sys.stderr, end="\n" if state.refused[1:] else "")
        raise SettingsError(state.refused[0], hint="the configuration in force stays")
    print(
        f"new settings for {', '.join(state.changed)}"
        if state.changed
        else "nothing changed: what is written down is in force"
    )
    return 0
