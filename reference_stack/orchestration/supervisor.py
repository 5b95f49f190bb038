"""Many processes as one: started in the order of their needs, watched, restarted one by one, stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from reference_stack.errors import NotReady, StackError, nearest
from reference_stack.orchestration import ports
from reference_stack.orchestration.fork_services import WANTED
from reference_stack.orchestration.forked import SERVICES, Nursery, Trade
from reference_stack.orchestration.keeping_up import KeepingUp
from reference_stack.orchestration.limits import Holds
from reference_stack.orchestration.process import Process
from reference_stack.orchestration.readiness import Probe
from reference_stack.schemas.common.limits import UNLIMITED, Limits
from reference_stack.schemas.common.program import Program

log = logging.getLogger(__name__)
_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.2


class State(enum.StrEnum):
    """Where a unit is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    DOWN = "down"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Unit:
    """A program with its place in the stack.

    It starts when all of `after` are ready, and is ready when `probe` says so within `ready_s`. With `listen_port` it
    inherits a socket that listens there (`--fd N` is added to its command line), so that a request sent before it
    serves waits instead of being refused. One that has `settings` is a service of ours, forked from the nursery; one
    that has a `trade` is forked from that trade's. `grace_s` is how long a polite stop may take. `limits` are the cores
    and the memory that it is held to. What it `uses` stops after it; names that are not in the stack are passed over.
    One that is `kept_up` is started again when it ends by itself.
    """

    name: str
    program: Program
    probe: Probe
    settings: Path | None = None
    after: tuple[str, ...] = ()
    listen_port: int | None = None
    ready_s: float = 30.0
    grace_s: float = 2.0
    limits: Limits = UNLIMITED
    trade: Trade | None = None
    uses: tuple[str, ...] = ()
    kept_up: bool = False


Watcher = Callable[[str, State, float], None]  # unit, its state, seconds since its start


class Supervisor:
    """Runs `units`. Logs are `folder`/NAME.log; `watch` hears of every change of state.

    `keeping_up` makes the rule by which a unit that ended by itself is started again.
    """

    def __init__(
        self,
        units: Iterable[Unit],
        folder: Path,
        watch: Watcher = lambda *_: None,
        keeping_up: Callable[[], KeepingUp] = KeepingUp,
    ) -> None:
        self._units = {unit.name: unit for unit in units}
        self._folder = folder
        self._watch = watch
        self._keeping_up = keeping_up
        self._processes: dict[str, Process] = {}
        self._states = dict.fromkeys(self._units, State.WAITING)
        self._told: dict[str, str] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._nurseries: dict[Trade, Nursery] = {}
        self._holds = Holds.on_this_machine({unit.name: unit.limits for unit in self._units.values()})

    @property
    def states(self) -> Mapping[str, State]:
        return MappingProxyType(self._states)

    @property
    def told(self) -> Mapping[str, str]:
        """What happened to units that ended by themselves and are kept up, in one line each."""
        return MappingProxyType(self._told)

    def process(self, name: str) -> Process:
        """Return the process of `name`; raises StackError when it was never started."""
        if name not in self._processes:
            raise StackError(f"nothing called {name!r} runs here", hint=nearest(name, self._units))
        return self._processes[name]

    def held(self, name: str) -> str:
        """Return in words what unit `name` is held to; "" where nothing limits it."""
        return self._holds.of(name).shown

    async def start(self) -> None:
        """Start every unit; return when all are ready. On a failure stop all of them and raise NotReady."""
        self._folder.mkdir(parents=True, exist_ok=True)
        ready = {name: asyncio.Event() for name in self._units}

        async def bring_up(unit: Unit) -> None:
            for need in unit.after:
                await ready[need].wait()
            await self._start(unit)
            ready[unit.name].set()

        try:
            async with asyncio.TaskGroup() as group:
                for unit in self._units.values():
                    group.create_task(bring_up(unit))
        except BaseExceptionGroup as failures:
            await self.stop()
            raise failures.exceptions[0] from None  # the others were stopped because of it
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def restart(self, name: str) -> None:
        """Stop `name` if it runs, start it again on the same port, return when it is ready."""
        await self._stop(self._units[self.process(name).name])
        await self._start(self._units[name])

    def kill(self, name: str) -> None:
        """End `name` as a crash would: SIGKILL."""
        self.process(name).kill()

    def pause(self, name: str) -> None:
        """Freeze `name` (SIGSTOP): its sockets stay open and nothing answers."""
        self.process(name).pause()
        self._say(name, State.PAUSED)

    def resume(self, name: str) -> None:
        self.process(name).resume()
        self._say(name, State.READY)

    async def stop(self) -> None:
        """Stop everything that was started, each as soon as all who use it have ended."""
        ended = {name: asyncio.Event() for name in self._processes}
        users = {name: [user for user in ended if name in self._units[user].uses] for name in ended}

        async def take_down(name: str) -> None:
            for user in users[name]:
                await ended[user].wait()
            try:
                await self._stop(self._units[name])
            finally:
                ended[name].set()

        await asyncio.gather(*map(take_down, ended))
        await asyncio.gather(*(nursery.close() for nursery in self._nurseries.values()))

    async def _start(self, unit: Unit) -> None:
        began = time.monotonic()
        process, reason = await self._attempt(unit)
        if reason:
            self._say(unit.name, State.DOWN)
            raise NotReady(
                f"{unit.name} did not come up: {reason}\n{_indented(process.log_tail())}",
                hint=f"its whole log: {process.log}",
            )
        self._say(unit.name, State.READY, time.monotonic() - began)
        self._watchers[unit.name] = asyncio.create_task(self._notice_ends(unit, process))

    async def _attempt(self, unit: Unit) -> tuple[Process, str]:
        """Start `unit` once; return its process, and "" or why it does not serve."""
        self._say(unit.name, State.STARTING)
        launching = asyncio.create_task(self._launch(unit))
        try:
            process = await asyncio.shield(launching)
        except asyncio.CancelledError:  # whoever stops it must know of the process that was being made
            with contextlib.suppress(StackError):
                self._processes[unit.name] = await launching
            raise
        self._processes[unit.name] = process
        return process, await self._until_ready(unit, process)

    async def _launch(self, unit: Unit) -> Process:
        log_file = self._folder / f"{unit.name}.log"
        hold = self._holds.of(unit.name)
        if unit.trade is not None:
            nursery = self._nursery(unit.trade, unit)
            return await nursery.spawn(unit.name, {"argv": unit.program.argv}, log_file, hold=hold)
        if unit.listen_port is None:
            return await Process.start(unit.name, unit.program, log_file, hold=hold)
        try:
            sock = ports.listen(unit.listen_port)
        except OSError as error:
            raise ports.taken(unit.listen_port, unit.name, error) from None
        # Ours is closed as soon as the child has its own: were it kept, a dead service would still seem to listen.
        with sock:
            if unit.settings is not None:
                nursery = self._nursery(SERVICES, unit)
                wanted = {"settings": str(unit.settings)}
                return await nursery.spawn(unit.name, wanted, log_file, (sock.fileno(),), hold)
            argv = (*unit.program.argv, "--fd", str(sock.fileno()))
            program = Program(argv, unit.program.environment, unit.program.stop_signal, unit.program.user_id)
            return await Process.start(unit.name, program, log_file, (sock.fileno(),), hold)

    def _nursery(self, trade: Trade, unit: Unit) -> Nursery:
        """Return the nursery of `trade`; its environment is that of the first unit that asks."""
        if trade not in self._nurseries:
            environment = dict(unit.program.environment)
            if trade == SERVICES:
                environment[WANTED] = ",".join(unit.name for unit in self._units.values() if unit.settings is not None)
            self._nurseries[trade] = Nursery(self._folder, trade, environment)
        return self._nurseries[trade]

    async def _until_ready(self, unit: Unit, process: Process) -> str:
        """Return "" when `unit` serves, else why it does not: it ended, or its time is up."""
        reason, look_s = "", _FIRST_LOOK_S
        deadline = time.monotonic() + unit.ready_s
        ended = asyncio.create_task(process.wait())
        try:
            while time.monotonic() < deadline:
                await asyncio.wait({ended}, timeout=look_s)
                if ended.done():
                    return f"it ended ({process.exit_status}{self._holds.verdict(unit.name)})"
                reason = await unit.probe()
                if not reason:
                    return ""
                look_s = min(look_s * 1.5, _LONGEST_LOOK_S)
        finally:
            ended.cancel()
        return f"not ready after {unit.ready_s:g} s: {reason}"

    async def _notice_ends(self, unit: Unit, process: Process) -> None:
        """Say that `unit` ended by itself; one that is kept up is started again, and its next end is noticed too."""
        keeping_up = self._keeping_up()
        while True:
            served_since = time.monotonic()
            await process.wait()
            ended = time.monotonic()
            how = process.exit_status + self._holds.verdict(unit.name)
            log.warning("%s ended by itself (%s); its log: %s", unit.name, how, process.log)
            if not unit.kept_up:
                self._say(unit.name, State.DOWN)
                return
            revived = await self._revive(unit, keeping_up, ended - served_since, how)
            if revived is None:
                log.error("%s is left down: it %s", unit.name, self._told[unit.name])
                return
            process = revived
            log.warning("%s serves again after %.1f s", unit.name, time.monotonic() - ended)

    async def _revive(self, unit: Unit, keeping_up: KeepingUp, served_s: float, how: str) -> Process | None:
        """Start `unit` again until it serves; None when it ended too often."""
        while True:
            pause_s = keeping_up.pause_s(served_s, how)
            self._told[unit.name] = keeping_up.told(serves=False)
            self._say(unit.name, State.DOWN)
            if pause_s is None:
                return None
            await asyncio.sleep(pause_s)
            try:
                process, how = await self._attempt(unit)
            except StackError as error:  # its port was taken meanwhile, or its program removed
                how = error.message
            else:
                if not how:
                    self._told[unit.name] = keeping_up.told(serves=True)
                    self._say(unit.name, State.READY)
                    return process
                await process.stop(unit.program.stop_signal, unit.grace_s)
            served_s = 0.0

    async def _stop(self, unit: Unit) -> None:
        watcher = self._watchers.pop(unit.name, None)
        if watcher is not None:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        process = self._processes.pop(unit.name)
        await process.stop(unit.program.stop_signal, unit.grace_s)
        await self._holds.release(unit.name)
        self._say(unit.name, State.STOPPED)

    def _say(self, name: str, state: State, after_s: float = 0.0) -> None:
        self._states[name] = state
        self._watch(name, state, after_s)


def _indented(text: str) -> str:
    return "\n".join(f"    | {line}" for line in text.splitlines()) or "    | (its log is empty)"
