"""The seams of the gateway: what its story needs of the journal, the limits, the routing and the answer cache.

Each is called on the path of every request, so it must cost little: plain attribute access and arithmetic, and no
round trip where what is known here suffices. Where a request may have to wait there are two methods: the one that never
waits is asked first, and the `async` one only when that has said None. The latter is driven outside of a task until it
first suspends, so code that needs one (`asyncio.timeout`, `asyncio.current_task`) must be behind `await in_task()`.

Nothing here may raise anything but Refusal, and only where its docstring says so; what goes wrong inside is the
implementer's to log and to survive.
"""

from __future__ import annotations

import types
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.services.infrastructure.api_gateway.asked import Asked
from reference_stack.services.infrastructure.api_gateway.backend import Backend
from reference_stack.services.infrastructure.api_gateway.call import Call


@types.coroutine
def in_task() -> Generator[None, None, None]:
    """Give way once; from then on the coroutine runs in a task of its own."""
    yield


class Words(Protocol):
    """What a journal notes progress in."""

    def __setitem__(self, place: int, word: int, /) -> None: ...


@dataclass(slots=True)
class Mark:
    """Where the progress of one stream is noted: `words[place] = base + tokens` says how many its client may have."""

    words: Words
    place: int
    base: int


class Ear(Protocol):
    """What is told that bytes of an answer came: `heard` is set to true for each read."""

    heard: bool


class Journal(Protocol):
    """Writes down what happens to each accepted request. For one call: accept, any number of progress, final."""

    @property
    def full(self) -> bool:
        """Whether no more can be written down; requests are then refused with 503 before they are accepted."""
        ...

    @property
    def waits(self) -> bool:
        """Whether an accepted request is to wait for `synced` before it goes to a model."""
        ...

    def accept(self, call: Call) -> None:
        """Put the accepted request on its way to disk, before it goes to a model. Never waits.

        Raises Refusal 503 when the disk does not take it; then nothing was accepted.
        """
        ...

    async def synced(self) -> None:
        """Return when a loss of power cannot undo what was accepted. Raises Refusal 503 when that cannot be."""
        ...

    def progress(self, call: Call) -> None:
        """Hear that more of a stream is about to be passed on: `call.texts` and `call.usage` are up to date.

        Called before the bytes go out, once for each read of the model's answer: decide cheaply whether to write.
        """
        ...

    def marker(self, call: Call) -> Mark:
        """Return what is written instead of calling `progress`, from now on and cheaper still."""
        ...

    def final(self, call: Call) -> None:
        """Write how the request ended (`call.row()` has it). Called exactly once, and only after `accept`.

        Of a complete answer before its last bytes go out (`Story.complete`), so that no client has one that a crash
        at that moment would bill as interrupted.
        """
        ...


class Grant(Protocol):
    """What `Limits.take` gave for one request, to be given back.

    `lines` are headers that tell the client how it stands, each with its line's end.
    """

    @property
    def lines(self) -> bytes: ...

    def settle(self, tokens: int) -> None:
        """Put `tokens` (prompt and output, as the model counted them) in the place of the estimate.

        Called exactly once, however the request ended; 0 when no model saw it. Never waits.
        """
        ...


class Limits(Protocol):
    """How much a key may ask for."""

    def take_at_once(self, key: ApiKey, estimated_tokens: int) -> Grant | None:
        """Take one request of `estimated_tokens` out of the key's limits where so much is in hand; else None."""
        ...

    async def take(self, key: ApiKey, estimated_tokens: int) -> Grant:
        """The same, and wait for what is not in hand. Raises Refusal 429 with Retry-After when the key has no room."""
        ...


class Ended(Enum):
    """How the use of a backend ended, as far as its health is concerned."""

    OK = "ok"  # answered to the end
    UNREACHED = "could not be reached"  # no connection, so nothing of the request was sent
    BEFORE = "failed before the first byte"  # broken connection, silence to the deadline, or what came was not HTTP
    AFTER = "failed after the first byte"  # broke off, or said nonsense
    LATE = "not done by the deadline"  # but answering
    REFUSED = "refused by status"  # answered, with a status other than 200
    CANCELLED = "cancelled"  # the client left, or the gateway stopped: says nothing of the backend


class Lease(Protocol):
    """One request's use of one backend."""

    @property
    def backend(self) -> Backend: ...

    @property
    def ear(self) -> Ear: ...

    def held(self) -> None:
        """Hear that the client takes no bytes for now, so that the backend's silence is not its fault."""
        ...

    def released(self) -> None:
        """Hear that the client takes bytes again. Called once for each `held`."""
        ...

    def end(self, how: Ended, status: int = 0, rest_s: float = 0.0) -> None:
        """Give the backend back; `status` is what it answered, 0 for nothing. Called exactly once. Never waits.

        `rest_s` is how long a backend that is overloaded asked to be left alone.
        """
        ...


class Router(Protocol):
    """Chooses the backend of a request."""

    def pick(self, call: Call, asked: Asked, tried: Sequence[Backend]) -> Lease | None:
        """Lease a backend for `asked.model`, or return None: it may `wait` for one.

        `tried` are those that failed this request, in order. `call.give_up()` takes the request away from a server that
        is stuck: it ends the lease, and another one is asked for where nothing was passed on. Raises Refusal 429 or 503
        with Retry-After when there is none, and no use in waiting.
        """
        ...

    async def wait(self, call: Call, asked: Asked) -> Lease:
        """Wait for a backend in a bounded line until a deadline; cancelled when the client leaves.

        Raises Refusal 429 or 503 with Retry-After when there is none.
        """
        ...

    def again(self, call: Call, asked: Asked, tried: Sequence[Backend], how: Ended, status: int) -> bool:
        """Return whether another backend is to be asked, the last of `tried` having ended so.

        Asked only while nothing of an answer was passed on, after the lease was ended, with `how` UNREACHED, BEFORE or
        REFUSED. `pick` follows at once, with nothing in between that suspends.
        """
        ...


class Answers(Protocol):
    """The cache of whole answers, for keys that opted in. An answer is its body, or a stream's events, as passed on."""

    def wants(self, call: Call, asked: Asked) -> bool:
        """Return whether this request may be answered from the cache, and its answer kept there. Almost free."""
        ...

    async def find(self, call: Call, asked: Asked) -> bytes | None:
        """Return the kept answer, or None. Asked only where `wants`. Bounded in time: a slow cache is a miss.

        Sets `call.usage` where it knows the answer's: a stream as it was passed on need not tell.
        """
        ...

    async def keep(self, call: Call, asked: Asked, answer: bytes) -> None:
        """Keep a complete answer. Runs in a task of its own, after the client has it, and only where `wants`."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """One implementer of each seam."""

    journal: Journal
    limits: Limits
    router: Router
    answers: Answers
