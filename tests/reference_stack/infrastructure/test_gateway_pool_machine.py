"""The servers of one model under requests, ends, silences and probes in any order: what holds whatever happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reference_stack.services.infrastructure.api_gateway.routing.pool import Place, Shed, Waiter
from reference_stack.services.infrastructure.api_gateway.routing.server import Sign
from tests.reference_stack.infrastructure.pool_cases import BOUNDS, RULES, again, pool


class Machine(RuleBasedStateMachine):
    """Requests, ends, silences and probes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool(2, 2, None, bounds=replace(BOUNDS, most=12, line=4))
        self.now_s = 0.0
        self.held: list[Place] = []
        self.line: list[Waiter] = []  # in the order in which they came
        self.requests = 0

    def take(self, found: Place) -> Place:
        if found.trial:
            assert found.server.breaker.trials_out <= RULES.trials
        self.held.append(found)
        return found

    @rule(key=st.integers(0, 3), stream=st.booleans(), wait=st.booleans())
    def request(self, key: int, stream: bool, wait: bool) -> None:
        self.requests += 1
        before = list(self.line)
        found = self.pool.request(key, self.now_s, stream=stream)
        if isinstance(found, Place):
            assert not before, "nobody is served before those in line"
            self.take(found)
        elif found is None and wait:
            self.wait(key)

    def wait(self, key: int) -> None:
        def tell(found: Place | Shed) -> bool:
            assert self.line[0] is waiter, "first come, first served"
            self.line.pop(0)
            if isinstance(found, Place):
                self.take(found)
            return True

        waiter = Waiter(key, stream=False, told=tell)
        self.line.append(waiter)
        self.pool.wait(waiter)

    @precondition(lambda self: self.held)
    @rule(number=st.integers(0, 20), sign=st.sampled_from(Sign), key=st.integers(0, 3), retry=st.booleans())
    def end(self, number: int, sign: Sign, key: int, retry: bool) -> None:
        given = self.held.pop(number % len(self.held))
        self.pool.end(given, sign, self.now_s, rest_s=1.0)
        following = again(self.pool, [given], self.now_s, key) if retry else None
        if following is not None:
            assert following.server is not given.server
            assert not self.line
            self.take(following)

    @precondition(lambda self: self.line)
    @rule(number=st.integers(0, 20))
    def leave(self, number: int) -> None:
        self.pool.leave(self.line.pop(number % len(self.line)))

    @rule(number=st.integers(0, 2), heard=st.booleans(), well=st.booleans())
    def learn(self, number: int, heard: bool, well: bool) -> None:
        server = self.pool.servers[number]
        server.heard = heard
        self.pool.probed(server, well=well)

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 25.0]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.pool.tick(self.now_s)

    @invariant()
    def every_place_is_counted_once(self) -> None:
        held = Counter(each.server.name for each in self.held)
        assert [each.in_flight for each in self.pool.servers] == [held[each.name] for each in self.pool.servers]
        streams = Counter(each.server.name for each in self.held if each.stream)
        assert [each.streams for each in self.pool.servers] == [streams[each.name] for each in self.pool.servers]
        trials = Counter(each.server.name for each in self.held if each.trial)
        assert [each.breaker.trials_out for each in self.pool.servers] == [trials[e.name] for e in self.pool.servers]
        assert self.pool.open == len(self.held)
        assert [each.well for each in self.pool.servers] == [each.standing is None for each in self.pool.servers]

    @invariant()
    def bounds_hold(self) -> None:
        assert all(each.max_in_flight is None or each.in_flight <= each.max_in_flight for each in self.pool.servers)
        assert self.pool.waiting == len(self.line) <= 4
        unreached = self.pool.counts.ended_by(Sign.UNREACHED)
        assert self.pool.counts.retries <= 1 + 0.1 * self.requests + unreached + 1e-6

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """After a tick nobody is in line while a trusted server has room."""
        self.pool.tick(self.now_s)
        if self.line:
            assert not [each for each in self.pool.servers if each.out(self.now_s) is None and not each.full]

    def teardown(self) -> None:
        """All that is held goes back, and then the line is empty and everything is at rest."""
        while self.held:
            self.pool.end(self.held.pop(), Sign.OK, self.now_s)
        assert self.pool.open == self.pool.waiting == 0
        assert not self.line


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPool = Machine.TestCase
