"""The sliding window is the same in the server's language and in ours, and holds whatever is asked of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.configuration.cache import CacheSettings
from reference_stack.services.integration.cache.client import RedisCache
from reference_stack.services.integration.cache.port import Ask, Draw
from reference_stack.services.integration.cache.window import Window
from tests.reference_stack.moved_scripts import MovedScripts

WINDOW_S = 60.0
amounts = st.integers(0, 50)
steps = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(1, 30), amounts, amounts, amounts, st.integers(0, 3), amounts),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100), steps)
def test_the_script_and_the_window_say_the_same(limit: int, told: list[tuple[int, ...]]) -> None:
    """Draws, debts and what goes back, at any times: both give the same, part for part, and the same times to wait."""

    async def story() -> None:
        now_ms = 1_000_000
        cache = RedisCache(MovedScripts(lambda: now_ms / 1000), CacheSettings(command_s=5.0))  # type: ignore[arg-type]  # what scripts need of a client
        window = Window(int(WINDOW_S * 1000))
        drawn: list[Draw] = []
        for pause_ms, least, want, most, owed, which, amount in told:
            now_ms += pause_ms
            back = tuple((each.part, amount) for each in drawn[-which:] if which)
            ask = Ask(least, want, most, owed, back)
            ours = window.draw(limit, ask, now_ms)
            theirs = await cache.draw("a", limit, WINDOW_S, ask)
            assert replace(theirs, born=ours.born) == ours  # ours loses no data, so it has no date to tell
            drawn.append(ours)

    asyncio.run(story())


@settings(deadline=None)
@given(st.integers(1, 60), st.lists(st.tuples(st.integers(0, 15_000), st.integers(1, 40)), max_size=60))
def test_no_span_of_a_window_has_more_than_the_limit(limit: int, told: list[tuple[int, int]]) -> None:
    """What was drawn may be used until its part ends, even so late; and who is told to wait so long gets it then."""
    window, now_ms = Window(60_000), 0
    latest: list[tuple[int, int]] = []
    for pause_ms, want in told:
        now_ms += pause_ms
        drawn = window.draw(limit, Ask(min(want, limit), min(want, limit), want), now_ms)
        if drawn.given:
            latest.append((drawn.part, drawn.given))
        else:
            now_ms += round(drawn.retry_s * 1000)
            drawn = window.draw(limit, Ask(min(want, limit), min(want, limit), want), now_ms)
            assert drawn.given
            latest.append((drawn.part, drawn.given))
        assert sum(given for part, given in latest if part > now_ms - 60_000) <= limit
