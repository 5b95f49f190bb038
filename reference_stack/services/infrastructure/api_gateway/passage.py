"""What of a model's event stream goes on to the client. Pure: bytes in, bytes out."""

from __future__ import annotations

from enum import Enum, auto

from reference_stack.services.infrastructure.api_gateway.events import Kind, Splitter, Tally


class State(Enum):
    """How a stream stands; nothing more is to be sent of one that finished or failed."""

    OPEN = auto()
    FINISHED = auto()
    FAILED = auto()


class Passage:
    """Passes whole events on as they came, byte for byte and in order, with three exceptions.

    The usage summary is withheld when the gateway asked for it and the client did not; an error of the model's server
    is withheld, since it may tell of its insides; and whatever follows the end or an error. [DONE] is passed on only
    when the model finished a choice before it and no error came.
    """

    def __init__(self, *, strip_usage: bool, most_held_bytes: int) -> None:
        self._splitter = Splitter()
        self._strip_usage = strip_usage
        self._most_held_bytes = most_held_bytes
        self.tally = Tally()
        self.state = State.OPEN

    def feed(self, data: bytes) -> bytes:
        """Return what may go on of the events that `data` completes."""
        passed = []
        for event in self._splitter.feed(data):
            kind = self.tally.read(event)
            if kind is Kind.DONE:
                self.state = State.FINISHED if self.tally.finished else State.FAILED
            elif kind is Kind.ERROR:
                self.state = State.FAILED
            if self.state is State.FAILED:
                break
            if kind is not Kind.USAGE or not self._strip_usage:
                passed.append(event)
            if self.state is State.FINISHED:
                break
        if self._splitter.held_bytes > self._most_held_bytes:
            self.state = State.FAILED
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def end(self) -> bytes:
        """The model's server closed the stream: settle its state; a [DONE] without its blank line counts."""
        if self.state is not State.OPEN:
            return b""
        rest = self._splitter.take().rstrip(b"\r\n")
        if rest == b"data: [DONE]":
            return self.feed(rest + b"\n\n")
        self.state = State.FAILED
        return b""
