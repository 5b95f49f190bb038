"""The router between tasks: who waits, who leaves at a bad moment, and what an attempt's end says of its server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

import pytest

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.asked import CHAT, Asked
from reference_stack.services.infrastructure.api_gateway.backend import Backend, backends_of
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.ports import Ended
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal
from reference_stack.services.infrastructure.api_gateway.routing.router import Held, Router, sign_of
from reference_stack.services.infrastructure.api_gateway.routing.server import Sign
from tests.reference_stack.infrastructure.conftest import DEADLINE_S

ASKED = Asked("mixtral", stream=True, strip_usage=False, body=b"{}", request={"prompt": "x"})


def router(*most: int, **routing: object) -> Router:
    """A router with one model and a server for each of `most`, its most requests in flight."""
    backends = [
        {"base_url": f"http://127.0.0.1:{1 + number}/v1", "max_in_flight": each} for number, each in enumerate(most)
    ]
    settings = ApiGatewaySettings.model_validate({"upstreams": {"mixtral": {"backends": backends}}, "routing": routing})
    return Router(settings, {name: backends_of(each) for name, each in settings.upstreams.items()})


def call() -> Call:
    return Call("id", "", CHAT)


def in_flight(found: Router) -> list[int]:
    return [server.in_flight for server in found.pools["mixtral"].servers]


def at_rest(found: Router) -> bool:
    pool = found.pools["mixtral"]
    trials = [server.breaker.trials_out for server in pool.servers]
    return not any(in_flight(found)) and not any(trials) and pool.open == pool.waiting == 0


async def in_line(found: Router, count: int) -> None:
    """Let the loop turn until `count` wait."""
    async with asyncio.timeout(DEADLINE_S):
        while found.pools["mixtral"].waiting < count:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


SAYS: list[tuple[Ended, int, Sign]] = [
    (Ended.OK, 200, Sign.OK),
    (Ended.UNREACHED, 0, Sign.UNREACHED),
    (Ended.BEFORE, 0, Sign.LOST),
    (Ended.AFTER, 200, Sign.BROKEN),
    (Ended.LATE, 200, Sign.CANCELLED),
    (Ended.CANCELLED, 0, Sign.CANCELLED),
    (Ended.REFUSED, 400, Sign.REFUSED),
    (Ended.REFUSED, 401, Sign.REFUSED),
    (Ended.REFUSED, 429, Sign.BUSY),
    (Ended.REFUSED, 503, Sign.BUSY),
    (Ended.REFUSED, 500, Sign.ERRED),
    (Ended.REFUSED, 307, Sign.ERRED),
]


async def pick(found: Router, tried: Sequence[Backend]) -> Held:
    """Lease a server, and wait for one where that must be."""
    return found.pick(call(), ASKED, tried) or await found.wait(call(), ASKED)


@pytest.mark.parametrize(("how", "status", "sign"), SAYS)
def test_what_an_end_says(how: Ended, status: int, sign: Sign) -> None:
    """Every way to end, and every class of status, says one thing of the server."""
    assert sign_of(how, status) is sign


def test_every_way_to_end_is_known() -> None:
    """No way to end that the seam names is without a meaning here."""
    assert {how for how, _, _ in SAYS} == set(Ended)


async def test_a_place_that_comes_as_its_client_leaves_goes_back() -> None:
    """A place is handed over and its taker cancelled in the same turn of the loop: nobody keeps it."""
    found = router(1)
    held = await pick(found, ())
    waits = asyncio.ensure_future(pick(found, ()))
    await in_line(found, 1)

    held.end(Ended.OK, 200)
    assert in_flight(found) == [1]
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits

    assert at_rest(found)


async def test_who_leaves_the_line_is_gone_from_it() -> None:
    """A cancelled wait holds nothing, and the place goes to the next."""
    found = router(1)
    held = await pick(found, ())
    first, second = (asyncio.ensure_future(pick(found, ())) for _ in range(2))
    await in_line(found, 2)

    first.cancel()
    held.end(Ended.OK, 200)

    (await second).end(Ended.OK, 200)
    assert first.cancelled()
    assert at_rest(found)


async def test_a_wait_has_an_end() -> None:
    """Whose time in line is up is told to come back, and is no longer in line."""
    found = router(1, line_s=0.01)
    held = await pick(found, ())
    with pytest.raises(Refusal) as refused:
        await pick(found, ())
    assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "model_overloaded", 1)
    held.end(Ended.OK, 200)
    assert at_rest(found)


def departures(seed: int) -> Iterator[tuple[float, Ended | None]]:
    """For each request when it ends, in turns of the loop, and how; None: its client leaves."""
    draw = random.Random(seed)
    while True:
        yield draw.randrange(6), draw.choice([*Ended, None, None, None])


async def test_thousands_of_departures_leave_no_place_taken() -> None:
    """10,000 requests, half of whose clients leave: in line, with a place, or between. All comes back."""
    found = router(3, 2, line=500, breaker_failures=60, breaker_of=64, breaker_open_s=0.001)
    ends = departures(7)

    async def one() -> None:
        turns, how = next(ends)
        tried = []
        held: Held | None = None
        try:
            held = await pick(found, ())
            held.held()
            for _ in range(int(turns)):
                await asyncio.sleep(0)
            held.released()
        except Refusal:
            return
        finally:
            if held is not None:
                held.end(how or Ended.CANCELLED, 200)
        tried.append(held.backend)
        if how is not None and found.again(call(), ASKED, tried, how, 200):
            (await pick(found, tried)).end(Ended.OK, 200)

    draw = random.Random(11)
    for _ in range(50):
        tasks = [asyncio.ensure_future(one()) for _ in range(200)]
        for task in draw.sample(tasks, 100):
            for _ in range(draw.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    found.pools["mixtral"].tick(found.clock())
    assert at_rest(found)
    counts = found.pools["mixtral"].counts
    assert sum(counts.ended.values()) > 500
    assert sum(server.served for server in found.pools["mixtral"].servers) > 50
