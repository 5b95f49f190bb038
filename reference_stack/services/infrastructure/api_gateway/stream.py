"""One stream of events on its way from a model to its client: counted, noted in the journal, then sent."""

from __future__ import annotations

from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.client import Client
from reference_stack.services.infrastructure.api_gateway.passage import Passage, State
from reference_stack.services.infrastructure.api_gateway.ports import Ear, Journal
from reference_stack.services.infrastructure.api_gateway.refusal import JSON
from reference_stack.services.infrastructure.api_gateway.shortcut import Shortcut
from reference_stack.services.infrastructure.api_gateway.wire.exchange import Headers, Takes

WHOLE: Headers = ((b"content-type", JSON),)
EVENT_STREAM: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))

_FINISHED = State.FINISHED  # looking it up in its enum costs some 0.2 us (CPython 3.11), at each event of each stream


class Stream:
    """What a model's server says, as far as the client gets it. Ends nothing: `state` says how it stands.

    `begun` says whether the client was sent anything; with `keeps` all that it was sent is `kept`.
    """

    __slots__ = ("_call", "_client", "_journal", "_keeps", "_parts", "_passage", "_shortcut", "begun")

    def __init__(self, passage: Passage, call: Call, client: Client, journal: Journal, *, keeps: bool) -> None:
        self._call = call
        self._client = client
        self._journal = journal
        self._passage = passage
        self._keeps = keeps
        self._parts: list[bytes] = []
        self._shortcut: Shortcut | None = None
        self.begun = False

    @property
    def state(self) -> State:
        return self._passage.state

    @property
    def kept(self) -> bytes:
        return b"".join(self._parts)

    def part(self, data: bytes) -> bytes:
        """Pass on what one read brought; return what is the last, which is sent once the end is written down."""
        return self._pass_on(self._passage.feed(data))

    def end(self) -> bytes:
        """Hear that no more will come; return as `part` does."""
        return self._pass_on(self._passage.end())

    def count(self) -> None:
        """Bring the call's figures up to date, with what went the short way too."""
        tally = self._passage.tally
        self._call.usage = tally.usage
        self._call.texts = tally.texts

    def shortcut(self, ear: Ear) -> Takes | None:
        """Return what takes the next events the short way; None where they are kept, or no client takes them framed."""
        passage = self._passage
        if not passage.settled:
            return None
        if self._shortcut is None:
            write = self._client.takes_chunks
            if write is None or self._keeps:
                return None
            self._shortcut = Shortcut(passage.likeness, passage.tally, ear, self._journal.marker(self._call), write)
        else:
            self._shortcut.renew()
        return self._shortcut.takes

    def _pass_on(self, data: bytes) -> bytes:
        self.count()
        finished = self._passage.state is _FINISHED
        if not data and not finished:
            return b""
        self._journal.progress(self._call)
        if self._keeps:
            self._parts.append(data)
        if not self.begun:
            self.begun = True
            self._client.begin(EVENT_STREAM)
        if finished:
            return data
        self._client.part(data)
        self._passage.learn()
        return b""
