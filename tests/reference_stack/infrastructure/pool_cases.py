"""Pools of a model's servers, and the steps that their tests take: no clock, no socket."""

from __future__ import annotations

from dataclasses import dataclass, field

from reference_stack.services.infrastructure.api_gateway.routing.budget import Budget
from reference_stack.services.infrastructure.api_gateway.routing.pool import Bounds, Place, Pool, Shed, Waiter
from reference_stack.services.infrastructure.api_gateway.routing.server import Rules, Server, Sign

RULES = Rules(
    failures=3,
    of=6,
    open_s=1.0,
    trials=2,
    stalled_s=5.0,
    whole_stalled_s=20.0,
    longest_step_s=1000.0,
    bad_probes=2,
    longest_rest_s=5.0,
)
BOUNDS = Bounds(affinity=1.25, most=100, line=3)
FAULTS = (Sign.UNREACHED, Sign.LOST, Sign.ERRED, Sign.BROKEN)


def pool(*most: int | None, bounds: Bounds = BOUNDS, share: float = 0.1) -> Pool:
    """A pool with a server for each of `most`, its most requests in flight."""
    servers = [
        Server(f"s{number}", weight=1.0, max_in_flight=each, rules=RULES, now_s=0.0) for number, each in enumerate(most)
    ]
    return Pool(servers, RULES, bounds, Budget(share=share))


def place(found: Pool, now_s: float = 0.0, *, key: int = 0, stream: bool = False) -> Place:
    given = found.request(key, now_s, stream=stream)
    assert isinstance(given, Place)
    return given


def again(found: Pool, tried: list[Place], now_s: float = 0.0, key: int = 0) -> Place | None:
    """The place of another attempt, where there may be one."""
    last = tried[-1]
    assert last.ended is not None
    servers = [each.server for each in tried]
    if not found.may_again(servers, last.ended, now_s):
        return None
    given = found.another(servers, key, now_s, stream=last.stream)
    assert given is not None
    return given


def fail(found: Pool, server: Server, now_s: float = 0.0, sign: Sign = Sign.ERRED) -> None:
    """Let the server fail until it is out."""
    while server.out(now_s) is None:
        given = place(found, now_s)
        found.end(given, sign if given.server is server else Sign.OK, now_s)


@dataclass
class Heard:
    """Somebody in line, and what he was told."""

    told: list[Place | Shed] = field(default_factory=list)
    there: bool = True

    def waiter(self, key: int = 0) -> Waiter:
        def tell(found: Place | Shed) -> bool:
            self.told.append(found)
            return self.there

        return Waiter(key, stream=False, told=tell)
