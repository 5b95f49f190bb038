"""What a master knows of one worker, and what the workers of a load come to together. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hxp_harness.load.clock import SAME, Exchange, Offset, over_run
from hxp_harness.load.plan import Due, HostShare, LoadSummary


class Stage(enum.Enum):
    """How far a worker is with the load."""

    JOINED = enum.auto()  # has no load
    LOADING = enum.auto()  # gets its schedule and prepares
    READY = enum.auto()
    SENDING = enum.auto()
    DONE = enum.auto()
    LOST = enum.auto()


@dataclass(slots=True)
class Member:
    """One worker as the master knows it."""

    id: str
    name: str
    clients: int
    same_clock: bool
    heard_ns: int
    stage: Stage = Stage.JOINED
    part: list[Due] = field(default_factory=list)
    given: int = 0  # requests of `part` that were handed over
    traced: int = 0
    lost: str = ""
    asked: dict[int, int] = field(default_factory=dict)  # when each question for the time was asked
    exchanges: list[Exchange] = field(default_factory=list)
    before: Offset | None = None
    after: Offset | None = None
    summaries: list[LoadSummary] = field(default_factory=list)

    @property
    def here(self) -> bool:
        return self.stage is not Stage.LOST


def share_of(member: Member) -> HostShare:
    """Return what is said of a worker in the record."""
    before = member.before or SAME
    wrong_ns = 0 if member.same_clock else over_run(before, member.after or before)
    return HostShare(
        name=member.name,
        clients=member.clients,
        requests=len(member.part),
        traced=member.traced,
        lost=member.lost,
        offset_s=before.ns / 1e9,
        uncertainty_s=wrong_ns / 1e9,
    )


def summed(members: Sequence[Member], t0_ns: int, stopped_s: float) -> LoadSummary:
    """Return the summary of all; a lost worker's requests count as due up to the stop, `stopped_s` from t0."""
    told = [(member.name, part) for member in members for part in member.summaries]
    nothing = LoadSummary(t0_ns / 1e9, 0.0, 0, 0, "user", 0.0, 0.0, 0, stopped_early=True)
    whole = LoadSummary.together([part for _, part in told], [name for name, _ in told]) if told else nothing
    missed = sum(due.intended_s <= stopped_s for member in members if member.lost for due in member.part)
    shares = sorted((share_of(member) for member in members), key=lambda share: share.name)
    return replace(whole, t0_monotonic_s=t0_ns / 1e9, due=whole.due + missed, hosts=tuple(shares))
