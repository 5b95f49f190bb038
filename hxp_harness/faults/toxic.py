"""The ways to poison a connection, in Toxiproxy's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hxp_harness.errors import UsageError, nearest

Stream = Literal["upstream", "downstream"]

# kind -> its attributes and their defaults; None has to be given
KINDS: Mapping[str, Mapping[str, float | None]] = {
    "latency": {"delay_s": None, "jitter_s": 0.0},  # everything comes later, order and rate stay
    "down": {},  # connections are reset, new ones refused
    "bandwidth": {"rate_bytes_per_s": None},
    "slow_close": {"delay_s": None},  # the end of the stream comes later
    "timeout": {"timeout_s": 0.0},  # nothing passes; the connection is closed after timeout_s, 0 is never
    "reset_peer": {"timeout_s": 0.0},  # connections are reset after timeout_s
    "slicer": {"average_bytes": None, "variation_bytes": 0.0, "delay_s": 0.0},  # small segments, so far apart
    "limit_data": {"limit_bytes": None},  # closed after so many bytes
    "corrupt": {"every_bytes": None},  # each so-many-th byte has its lowest bit flipped
}

_ABOVE_ZERO = {"rate_bytes_per_s", "average_bytes", "every_bytes"}


@dataclass(frozen=True, slots=True, eq=False)
class Toxic:
    """One poison on one direction: `downstream` is from the server to its client."""

    kind: str
    stream: Stream
    attributes: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        return self.attributes[name]


def make_toxic(kind: str, stream: Stream, attributes: Mapping[str, float]) -> Toxic:
    """Return a toxic; raise UsageError for an unknown kind, an unknown or missing attribute, a negative value."""
    if kind not in KINDS:
        raise UsageError(f"no toxic {kind!r}", hint=nearest(kind, KINDS))
    known = KINDS[kind]
    for name, value in attributes.items():
        if name not in known:
            raise UsageError(f"{kind} has no {name!r}", hint=nearest(name, known) if known else "it takes none")
        if value < 0 or (value == 0 and name in _ABOVE_ZERO):
            raise UsageError(f"{kind}: {name} cannot be {value}")
    whole = {**known, **attributes}
    for name, given in whole.items():
        if given is None:
            raise UsageError(f"{kind} needs {name}")
    return Toxic(kind, stream, {name: given for name, given in whole.items() if given is not None})
