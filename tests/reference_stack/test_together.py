"""Promises of questions that are asked together: each its own answer, few trips, nobody left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from reference_stack.together import Together


class Asked:
    """Doubles numbers, one gate a trip; keeps what each trip carried."""

    def __init__(self) -> None:
        self.trips: list[list[int]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.trips.append(list(numbers))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [2 * number for number in numbers]


async def test_a_thousand_who_ask_at_once_make_few_trips() -> None:
    """Each has its own answer; a trip carries no more than it may."""
    asked = Asked()
    asked.gate.set()
    together = Together(asked, most=300)
    assert list(await asyncio.gather(*(together(n) for n in range(1000)))) == list(range(0, 2000, 2))
    assert [len(trip) for trip in asked.trips] == [300, 300, 300, 100]


async def test_who_comes_while_trips_are_under_way_goes_with_the_next() -> None:
    """No more than `at_once` trips at a time; behind them questions gather, and who was cancelled is left out."""
    asked = Asked()
    together = Together(asked, at_once=1)
    first = asyncio.ensure_future(together(1))
    while not asked.trips:  # noqa: ASYNC110 - the trip tells nobody
        await asyncio.sleep(0)
    rest = [asyncio.ensure_future(together(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    rest[1].cancel()
    await asyncio.sleep(0)
    asked.gate.set()
    assert list(await asyncio.gather(first, rest[0], rest[2])) == [2, 4, 8]
    assert asked.trips == [[1], [2, 4]]


async def test_what_goes_wrong_is_everybodys_and_no_longer() -> None:
    """All of a trip hear of its error, and the next trip is made as if nothing had been."""
    asked = Asked()
    asked.gate.set()
    asked.error = ConnectionError("gone")
    together = Together(asked)
    found = await asyncio.gather(*(together(number) for number in (1, 2)), return_exceptions=True)
    assert [type(each) for each in found] == [ConnectionError, ConnectionError]
    asked.error = None
    assert await together(3) == 6


@pytest.mark.parametrize("turns", [2, 4])
async def test_a_trip_that_is_cancelled_leaves_nobody_waiting(turns: int) -> None:
    """When the loop ends its tasks, those who wait are cancelled too, whether their trip has begun or not."""
    asked = Asked()
    together = Together(asked)
    waiting = asyncio.ensure_future(together(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    assert bool(asked.trips) == (turns > 2)
    for trip in together._trips:
        trip.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
