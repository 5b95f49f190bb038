"""The parent: owns the listening sockets, has its workers made, replaced, renewed and ended; serves nothing itself.

It has no thread and no event loop, so that forking it is safe: a worker begins with all modules imported and with no
lock held, no timer running and no connection open. The event loop (uvloop), connections and threads are a worker's own.
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Mapping

from reference_stack.errors import SettingsError
from reference_stack.workers.backoff import Backoff
from reference_stack.workers.board import Board
from reference_stack.workers.crew import Child, Crew, ParentMeasures, Roll, Told, ended_how
from reference_stack.workers.worker import Post, Service, WorkerSettings, work

log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_GENERATIONS = 4  # how many of them may be ending at once
_LOOK_S = 0.25
_CLOSE_LOOK_S = 0.02
_MARGIN_S = 3.0  # what a worker may take beyond its time to drain


class Parent:
    """Runs `service` with `settings` on `listeners`, by door; "" is the API's."""

    def __init__(self, service: Service, settings: WorkerSettings, listeners: Mapping[str, socket.socket]) -> None:
        self._service = service
        self._listeners = dict(listeners)
        self._crew = Crew(settings)
        self._roll: Roll | None = None
        self._board = Board(1 + (settings.workers + 1) * _GENERATIONS)
        self._measures = ParentMeasures(self._board)
        self._backoff = Backoff()
        self._due_s: list[float] = []  # when workers that died are replaced
        self._ever_ready = False
        self._stopping_s: float | None = None
        self._code = 0
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_to = socket.socketpair()

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        self._hear_signals()
        gc.collect()
        gc.freeze()  # the collector of a worker then leaves the shared pages alone
        for _ in range(self._crew.settings.workers):
            self._spawn(0, self._crew.settings)
        while self._stopping_s is None or self._crew.children:
            for key, _ in self.selector.select(_LOOK_S if self._roll is None else _CLOSE_LOOK_S):
                if self.selector.get_map().get(key.fileobj) == key:  # else one before it has closed it
                    key.data()
            self._look()
        return self._code

    def _hear_signals(self) -> None:
        for end in (self._wakeup, self._wakeup_to):
            end.setblocking(False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_to.fileno(), warn_on_full_buffer=False)
        self.selector.register(self._wakeup, selectors.EVENT_READ, self._on_signals)

    def _on_signals(self) -> None:
        for number in self._wakeup.recv(4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stop()
            elif number == signal.SIGHUP:
                self.reload()
            elif number == signal.SIGUSR2:
                self.restart()

    def stop(self) -> None:
        """Stop listening and let the workers end; a second time, end them now."""
        if self._stopping_s is not None:
            log.warning("told a second time to stop: %d workers are ended now", len(self._crew.children))
            self._tell_all(signal.SIGKILL)
            return
        log.info("stopping: no new connections, open requests may take %g s", self._crew.settings.process.drain_s)
        self._stopping_s = time.monotonic()
        self._board.stop()
        # Ours first: the last one to close a listener decides what becomes of connections that nobody has accepted,
        # and a worker takes them before it closes its own.
        for listener in self._listeners.values():
            listener.close()
        if self._roll is not None and not self._roll.took_over:
            self._give_up("the service is being stopped")
        self._tell_all(signal.SIGTERM)

    def reload(self, told: Told = lambda _: None) -> None:
        """Read the settings anew and renew the workers with them; what is wrong leaves everything as it is."""
        try:
            settings = self._service.read()
        except SettingsError as error:
            log.error("reload refused, the configuration in force stays: %s", error)  # noqa: TRY400 - it says all
            self._measures.rolls.labels("refused").inc()
            told(str(error))
            return
        self._renew(settings, told)

    def restart(self, told: Told = lambda _: None) -> None:
        """Renew the workers with the settings in force."""
        self._renew(self._crew.settings, told)

    def status(self) -> dict[str, object]:
        """Return what a person wants to know of the workers."""
        rows = [
            {"pid": each.pid, "state": each.state(self._crew.generation), "age_s": round(each.age_s, 1)}
            for each in self._crew.children.values()
        ]
        return {"pid": os.getpid(), "generation": self._crew.generation, "workers": rows}

    def _renew(self, settings: WorkerSettings, told: Told) -> None:
        problem = self._obstacle(settings)
        if problem:
            log.error("rolling restart refused: %s", problem)
            self._measures.rolls.labels("refused").inc()
            told(problem)
            return
        self._roll = Roll(settings, time.monotonic() + settings.process.ready_s, told)
        log.info("rolling restart: %d new workers", settings.workers)
        for _ in range(settings.workers):
            self._spawn(self._crew.generation + 1, settings)

    def _obstacle(self, settings: WorkerSettings) -> str:
        if self._stopping_s is not None:
            return "the service is being stopped"
        if self._roll is not None:
            return "a rolling restart is under way"
        if settings.metrics.port != self._crew.settings.metrics.port:
            return "metrics.port cannot be changed by a reload: stop the service and start it again"
        if settings.workers > self._board.room:
            return "older workers are still ending, and there is no room for more; try again when they have"
        return ""

    def _spawn(self, generation: int, settings: WorkerSettings) -> None:
        slab = self._board.free()
        if slab is None:  # older workers hold them all: tried again at the next look
            self._due_s.append(time.monotonic())
            return
        parent = os.getpid()
        slab.take(parent)
        ready_from, ready_to = os.pipe()
        # A signal that came before the worker has put ours aside would be lost on it, or reach us.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._forget_all()
            work(self._service, settings, Post(parent, self._board, slab, self._listeners, ready_to))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(ready_to)
        slab.pid = pid
        child = Child(pid, os.pidfd_open(pid), ready_from, slab, generation)
        self._crew.children[pid] = child
        self.selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._on_end(child))
        self.selector.register(ready_from, selectors.EVENT_READ, lambda: self._on_ready(child))

    def _forget_all(self) -> None:
        """In a new worker: put aside what is the parent's."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for key in list(self.selector.get_map().values()):
            os.close(key.fd)
        self.selector.close()
        self._wakeup_to.close()
        self._wakeup.detach()

    def _on_ready(self, child: Child) -> None:
        serves = child.ready_from is not None and os.read(child.ready_from, 1) == b"1"
        self._close_ready(child)
        if not serves:
            return  # it ended; its pidfd tells
        self._ever_ready = True
        child.ready_s = time.monotonic()
        log.info("worker %d serves after %.2f s", child.pid, child.age_s)
        roll = self._roll
        if (
            roll is not None
            and sum(each.ready for each in self._crew.of(self._crew.generation + 1)) >= roll.settings.workers
        ):
            self._take_over(roll)

    def _take_over(self, roll: Roll) -> None:
        old = self._crew.of(self._crew.generation)
        self._crew.generation += 1
        self._crew.settings = roll.settings
        self._due_s.clear()
        roll.took_over = True
        for child in old:
            child.dismiss()
        log.info("rolling restart: %d workers serve, %d end", len(self._crew.serving), len(old))

    def _see_off(self, roll: Roll) -> None:
        """Tell of the end of a rolling restart, once no old worker accepts connections any more."""
        if not any(each.leaving_s and not each.slab.leaves for each in self._crew.children.values()):
            self._roll = None
            self._measures.rolls.labels("done").inc()
            log.info("rolling restart done")
            roll.told("")

    def _give_up(self, why: str) -> None:
        """End the new workers; the old ones stay."""
        roll, self._roll = self._roll, None
        for child in self._crew.of(self._crew.generation + 1):
            child.dismiss(signal.SIGKILL)
        self._measures.rolls.labels("failed").inc()
        log.error("rolling restart given up, the old workers stay: %s", why)
        if roll is not None:
            roll.told(why)

    def _on_end(self, child: Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        self.selector.unregister(child.pidfd)
        os.close(child.pidfd)
        self._close_ready(child)
        del self._crew.children[child.pid]
        child.slab.pid = 0
        if child.leaving_s is not None or self._stopping_s is not None:
            return
        how = ended_how(status)
        if child.generation > self._crew.generation:
            self._give_up(f"new worker {child.pid} ended ({how}) before all of them served")
        elif not self._ever_ready:
            log.error("worker %d ended (%s) before any served", child.pid, how)
            self._code = max(os.waitstatus_to_exitcode(status), 1)
            self.stop()
        else:
            self._replace(child, how)

    def _close_ready(self, child: Child) -> None:
        if child.ready_from is not None:
            self.selector.unregister(child.ready_from)
            os.close(child.ready_from)
            child.ready_from = None  # the number is soon another descriptor's

    def _replace(self, child: Child, how: str) -> None:
        pause_s = self._backoff.pause_s(child.served_s)
        self._measures.deaths.inc()
        when = f"the next one in {pause_s:g} s" if pause_s else "replaced at once"
        early = self._backoff.early_deaths
        often = f", number {early} in a row to end soon after its start" if pause_s else ""
        log.error("worker %d ended by itself (%s)%s: %s", child.pid, how, often, when)
        self._due_s.append(time.monotonic() + pause_s)

    def _look(self) -> None:
        """Do what is due."""
        now_s = time.monotonic()
        self._measures.workers.set(len(self._crew.serving))
        for child in list(self._crew.children.values()):
            self._watch(child, now_s)
        if self._stopping_s is not None:
            return
        due = [at for at in self._due_s if at <= now_s]
        self._due_s = [at for at in self._due_s if at > now_s]
        for _ in due:
            self._spawn(self._crew.generation, self._crew.settings)
        if self._roll is not None and self._roll.took_over:
            self._see_off(self._roll)
        elif self._roll is not None and now_s > self._roll.until_s:
            self._give_up(f"the new workers do not serve after {self._roll.settings.process.ready_s:g} s")

    def _watch(self, child: Child, now_s: float) -> None:
        """End a worker that is overdue, and report once one whose loop does not go round."""
        process = self._crew.settings.process
        leaves_s = self._stopping_s if child.leaving_s is None else child.leaving_s
        if leaves_s is not None and now_s > leaves_s + process.drain_s + _MARGIN_S:
            log.error("worker %d has not ended in its time and is killed", child.pid)
            child.dismiss(signal.SIGKILL)
        elif not child.ready and child.age_s > process.ready_s:
            log.error("worker %d does not serve after %g s and is killed", child.pid, process.ready_s)
            child.tell(signal.SIGKILL)
        late_s = now_s - child.slab.beat_s if child.slab.beat_s else 0.0
        if late_s < process.stuck_s:
            child.stuck = False
        elif not child.stuck:
            child.stuck = True
            self._measures.stuck.inc()
            what = "is killed" if process.replace_stuck else "is left alone (process.replace_stuck would replace it)"
            log.error("worker %d: its event loop has not answered for %.1f s; it %s", child.pid, late_s, what)
            if process.replace_stuck:
                child.tell(signal.SIGKILL)

    def _tell_all(self, number: int) -> None:
        for child in self._crew.children.values():
            child.tell(number)
