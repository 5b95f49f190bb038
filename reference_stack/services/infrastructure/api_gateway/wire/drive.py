"""Runs a coroutine that seldom waits, and makes a task of it only when it does."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


def drive(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run `coroutine` until it first suspends; return the task that goes on with it, or None when it is done.

    A task costs several microseconds, more than all the policy that a request usually meets. What the coroutine raises
    before it suspends is raised here.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(_go_on(coroutine, awaited))


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, None], awaited: object) -> Generator[object, None, None]:
    """Hand on what goes in and out of a coroutine that has begun elsewhere."""
    try:
        while True:
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - a cancellation belongs to the coroutine
                awaited = coroutine.throw(error)
            else:
                awaited = coroutine.send(None)
    except StopIteration:
        return
