"""One timer for all deadlines, however many there are."""

from __future__ import annotations

import asyncio

from reference_stack.services.infrastructure.api_gateway.wire.watch import MOST_A_LOOK, Watch


class Due:
    """Is due at once; notes when it hears so, and may end another one then."""

    def __init__(self, heard: list[Due], watch: Watch) -> None:
        self.due_s = 0.0
        self.ends: Due | None = None
        self._heard = heard
        self._watch = watch

    def expire(self, now_s: float) -> None:
        assert now_s > 0
        self.due_s = float("inf")
        self._heard.append(self)
        if self.ends is not None:
            self._watch.discard(self.ends)


async def test_all_that_is_due_hears_of_it_once() -> None:
    """More than one look holds are all told, each once, and what is not watched any more is not."""
    watch, heard = Watch(), []  # type: Watch, list[Due]
    all_due = [Due(heard, watch) for _ in range(3 * MOST_A_LOOK)]
    pair = Due(heard, watch), Due(heard, watch)
    pair[0].ends, pair[1].ends = pair[1], pair[0]
    late = Due(heard, watch)
    late.due_s = float("inf")
    for each in (*all_due, *pair, late):
        watch.add(each)
    watch.start()
    async with asyncio.timeout(10):
        while len(heard) <= len(all_due):  # noqa: ASYNC110 - a deadline tells of itself alone
            await asyncio.sleep(0.01)
        late.due_s = 0.0
        while late not in heard:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
    watch.stop()
    assert set(all_due) <= set(heard)
    assert len(heard) == len(all_due) + 2
