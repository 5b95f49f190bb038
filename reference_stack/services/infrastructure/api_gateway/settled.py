"""What is kept of a request that has ended, for whoever counts it and for its line in the log."""

from __future__ import annotations

import msgspec

from reference_stack.schemas.api.usage import Outcome


class Settled(msgspec.Struct, tag_field="event", tag="request", gc=False):
    """One request that has ended; it holds no prompt, key or token text. Times in seconds, `ts` of the wall clock."""

    ts: float
    pid: int
    id: str
    client_id: str
    route: str
    key: str
    model: str
    stream: bool
    status: int
    error: str
    outcome: Outcome | None
    prompt_tokens: int | None
    output_tokens: int
    first_byte_s: float | None
    took_s: float

    def line(self) -> str:
        """Return the line of the log, its times in whole microseconds."""
        first_byte_s = self.first_byte_s
        self.ts = _to_us(self.ts)
        self.first_byte_s = None if first_byte_s is None else _to_us(first_byte_s)
        self.took_s = _to_us(self.took_s)
        return _encode(self).decode()


_encode = msgspec.json.Encoder().encode


def _to_us(seconds: float) -> float:
    """Round to whole microseconds; `round` takes ten times as long, for it goes by way of decimal digits."""
    return int(seconds * 1e6 + 0.5) / 1e6
