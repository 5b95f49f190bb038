"""The master's part in a load from several hosts: who is there, who gets what, when all begin, who is lost. No sockets.

A load goes: schedule to each worker, in pieces that it acknowledges -> all have prepared -> clocks compared -> one t0
for all -> traces come back, one piece at a time, into the run's file -> all have ended -> clocks compared again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from hxp_harness.load.build import differences
from hxp_harness.load.clock import SAME, Exchange, best
from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.member import Member, Stage, summed
from hxp_harness.load.plan import LoadSummary
from hxp_harness.load.schedule import read_schedule
from hxp_harness.load.split import deal, slots_for

Message = Mapping[str, Any]
EXCHANGES = 40
PIECE_DUES = 2000
PING_S = 0.5
LOST_S = 4.0  # a worker that nothing was heard of for so long is lost
LEAD_S = 0.5  # from the word to t0


class Master:
    """`send` reaches a worker by its id, `say` the process that runs us, `now_ns` is the monotonic clock."""

    def __init__(
        self,
        send: Callable[[str, Message], None],
        say: Callable[[Message], None],
        now_ns: Callable[[], int],
        *,
        expected: int,
        build: Mapping[str, str],
        clock: str,
    ) -> None:
        """`expected` workers are taken, and no other; they must be of our `build`. `clock` names the clock."""
        self._send, self._say, self._now_ns = send, say, now_ns
        self._expected, self._build, self._clock = expected, build, clock
        self._on: Mapping[str, Callable[[Member, Message], None]] = {
            "pong": self._on_pong,
            "took": lambda member, _: self._give(member),
            "ready": self._on_ready,
            "traces": self._on_traces,
            "done": self._on_done,
            "leave": lambda member, message: self._lose(member, str(message["why"])),
        }
        self._members: dict[str, Member] = {}
        self._folder: LoadFolder | None = None
        self._questions = 0
        self._pinged_ns = 0
        self._t0_ns = 0
        self._stopped_ns = 0
        self._failure = ""

    @property
    def sending(self) -> bool:
        """Whether a load is on its way."""
        return self._folder is not None and self._t0_ns != 0

    def hear(self, worker: str, message: Message) -> None:
        """Take a message of a worker."""
        if message["kind"] == "hello":
            self._welcome(worker, message)
            return
        member = self._members.get(worker)
        if member is None or not member.here:
            return
        member.heard_ns = self._now_ns()
        handler = self._on.get(message["kind"])
        if handler is not None:
            handler(member, message)

    def load(self, folder: LoadFolder) -> None:
        """Begin the load whose plan and schedule lie in `folder`, with every worker that is here."""
        plan, schedule = folder.read_plan(), read_schedule(folder.schedule)
        self._folder, self._t0_ns, self._stopped_ns, self._failure = folder, 0, 0, ""
        folder.traces.touch()
        members = sorted(self._members.values(), key=lambda member: (member.name, member.id))
        gone = [f"worker {member.name} was lost ({member.lost})" for member in members if not member.here]
        if gone or not members:
            self._fail("; ".join(gone) or "no worker has joined")
            return
        clients = [member.clients for member in members]
        shares = zip(
            members, deal(schedule, clients, plan.concurrency), slots_for(plan.concurrency, clients), strict=True
        )
        for member, part, slots in shares:
            member.part, member.given, member.traced, member.summaries = part, 0, 0, []
            member.before = member.after = None
            member.stage = Stage.LOADING
            own = replace(plan, concurrency=slots)
            self._send(member.id, {"kind": "load", "plan": msgspec.json.encode(own)})
            self._give(member)

    def stop(self) -> None:
        """End the load early."""
        if self._folder is None or self._stopped_ns:
            return
        self._stopped_ns = self._now_ns()
        for member in self._at(Stage.LOADING, Stage.READY, Stage.SENDING):
            self._send(member.id, {"kind": "stop"})

    def close(self) -> None:
        """Send every worker home."""
        for member in self._members.values():
            self._send(member.id, {"kind": "over"})

    def tick(self) -> None:
        """Look around; call it every few hundredths of a second."""
        now_ns = self._now_ns()
        if now_ns - self._pinged_ns >= PING_S * 1e9:
            self._pinged_ns = now_ns
            for member in self._members.values():
                if member.here:
                    self._ask(member)
        for member in self._members.values():
            silent_s = (now_ns - member.heard_ns) / 1e9
            if member.here and silent_s > LOST_S:
                self._lose(member, f"nothing heard of it for {silent_s:.1f} s")
        self._advance()

    def _welcome(self, worker: str, message: Message) -> None:
        if worker in self._members:
            return
        why = ""
        if unlike := differences(self._build, message["build"]):
            why = f"worker {message['name']} has {', '.join(unlike)}; install what the master has"
        elif len(self._members) >= self._expected:
            why = f"worker {message['name']} is one too many: --hosts {self._expected}, and all have joined"
        if why:
            self._send(worker, {"kind": "refused", "why": why})
            self._say({"refused": why})
            return
        taken = {member.name for member in self._members.values() if member.here}
        name = str(message["name"])
        if name in taken:
            name = f"{name}-{sum(other.startswith(name) for other in taken) + 1}"
        member = Member(worker, name, int(message["clients"]), message["clock"] == self._clock, self._now_ns())
        self._members[worker] = member
        self._send(worker, {"kind": "welcome", "name": name})
        self._say({"joined": {"name": name, "clients": member.clients, "cores": int(message["cores"])}})

    def _on_pong(self, member: Member, message: Message) -> None:
        asked_ns = member.asked.pop(int(message["number"]), None)
        if asked_ns is not None:
            member.exchanges.append(Exchange(asked_ns, int(message["ns"]), member.heard_ns))
            if 0 < len(member.exchanges) < EXCHANGES and self._comparing(member):
                self._ask(member)

    def _on_ready(self, member: Member, _: Message) -> None:
        member.stage = Stage.READY
        self._compare(member)

    def _on_traces(self, member: Member, message: Message) -> None:
        if self._folder is None:
            return
        try:
            with self._folder.traces.open("ab") as file:
                file.write(message["lines"])
        except OSError as error:
            self._fail(f"the traces cannot be written: {error.strerror}")
        member.traced += message["lines"].count(b"\n")
        self._send(member.id, {"kind": "took"})

    def _on_done(self, member: Member, message: Message) -> None:
        member.stage = Stage.DONE
        member.summaries = [msgspec.json.decode(part, type=LoadSummary) for part in message["parts"]]
        self._compare(member)
        if message["error"]:
            self._fail(f"worker {member.name}: {message['error']}")

    def _compare(self, member: Member) -> None:
        """Begin to compare the clock of a worker with ours."""
        member.exchanges.clear()
        if not member.same_clock:
            self._ask(member)

    def _ask(self, member: Member) -> None:
        self._questions += 1
        member.asked[self._questions] = self._now_ns()
        self._send(member.id, {"kind": "ping", "number": self._questions})

    def _give(self, member: Member) -> None:
        """Hand over the next piece of the schedule; an empty one is the last."""
        if member.stage is Stage.LOADING and member.given <= len(member.part):
            piece = member.part[member.given : member.given + PIECE_DUES]
            lines = msgspec.json.Encoder().encode_lines(piece)
            member.given += len(piece) or 1
            self._send(member.id, {"kind": "schedule", "lines": lines})

    def _comparing(self, member: Member) -> bool:
        return member.stage is Stage.READY or (member.stage is Stage.DONE and self._folder is not None)

    def _at(self, *stages: Stage) -> list[Member]:
        return [member for member in self._members.values() if member.stage in stages]

    def _lose(self, member: Member, why: str) -> None:
        busy = self._folder is not None and member.stage not in {Stage.JOINED, Stage.DONE}
        member.stage, member.lost = Stage.LOST, why
        self._say({"lost": member.name, "why": why})
        if busy:
            self.stop()

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self.stop()

    def _advance(self) -> None:
        """Go on to the next step of the load when every worker has come so far."""
        if self._folder is None:
            return
        under_way = self._at(Stage.LOADING, Stage.READY, Stage.SENDING)
        if not self._t0_ns and not self._stopped_ns and under_way and all(map(self._compared, under_way)):
            self._begin(under_way)
        if not under_way and all(map(self._compared, self._at(Stage.DONE))):
            self._end(self._folder)

    def _compared(self, member: Member) -> bool:
        """Whether the clock of a worker that is ready, or done, has been compared."""
        if member.stage is Stage.LOADING or (len(member.exchanges) < EXCHANGES and not member.same_clock):
            return False
        offset = SAME if member.same_clock else best(member.exchanges)
        if member.stage is Stage.READY:
            member.before = offset
        else:
            member.after = offset
        return True

    def _begin(self, members: Sequence[Member]) -> None:
        self._t0_ns = self._now_ns() + int(LEAD_S * 1e9)
        for member in members:
            member.stage = Stage.SENDING
            offset_ns = 0 if member.before is None else member.before.ns
            self._send(member.id, {"kind": "go", "t0_ns": self._t0_ns + offset_ns})
        self._say({"sending": len(members)})

    def _end(self, folder: LoadFolder) -> None:
        stopped_s = ((self._stopped_ns or self._now_ns()) - self._t0_ns) / 1e9 if self._t0_ns else -1.0
        if not self._failure:
            folder.write_summary(summed(list(self._members.values()), self._t0_ns or self._now_ns(), stopped_s))
        self._folder, self._t0_ns = None, 0
        for member in self._at(Stage.DONE):
            member.stage = Stage.JOINED
        self._say({"ended": not self._failure, "why": self._failure})
