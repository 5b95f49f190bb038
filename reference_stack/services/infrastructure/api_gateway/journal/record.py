"""The lines of a journal: a checksum, a JSON array, a newline. Pure.

Lines rather than lengths: a reader finds the next record behind a damaged one, a person can read the file, and what a
torn write leaves has no newline and so cannot be taken for a record. The checksum (CRC-32, of what stands behind it)
tells what was changed since.
"""

from __future__ import annotations

import zlib
from operator import attrgetter
from typing import NamedTuple

import msgspec

from reference_stack.schemas.api.usage import Outcome, UsageRow

FORMAT = 1
_CHECKSUM_DIGITS = 8


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """The first record of a segment: how the others are written."""

    format: int


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag="accepted"):
    """A request that will go to its model. Its progress stands in the lane's marks at `mark`, under `serial`."""

    request_id: str
    client_request_id: str
    key_id: str
    tenant: str
    model: str
    route: str
    stream: bool
    accepted_at_s: float
    mark: int
    serial: int


class Final(msgspec.Struct, frozen=True, array_like=True, tag="final"):
    """How a request ended: a usage row, whole, so that no other record is needed to store it."""

    request_id: str
    client_request_id: str
    key_id: str
    tenant: str
    model: str
    route: str
    outcome: Outcome
    status: int
    stream: bool
    prompt_tokens: int | None
    output_tokens: int
    exact: bool
    accepted_at_s: float
    took_s: float
    cached: bool = False

    def row(self) -> UsageRow:
        return UsageRow(*msgspec.structs.astuple(self))


Record = Opened | Accepted | Final
_fields_of = attrgetter(*Final.__struct_fields__)
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Scan(NamedTuple):
    """What some bytes of a segment hold: records, how many bytes are whole lines, and how many of those are none."""

    records: list[Record]
    whole_bytes: int
    damaged: int


def line_of(record: Record) -> bytes:
    """Return the line that stands for `record`."""
    try:
        text = _encode(record)
    except UnicodeEncodeError:  # half a surrogate pair, from a name in the settings: the row counts more than it
        fields = msgspec.structs.asdict(record).items()
        clean = {name: text.encode(errors="replace").decode() for name, text in fields if isinstance(text, str)}
        text = _encode(msgspec.structs.replace(record, **clean))
    return b"%08x %b\n" % (zlib.crc32(text), text)


def final_of(row: UsageRow) -> Final:
    return Final(*_fields_of(row))


def scan(data: bytes) -> Scan:
    """Read the whole lines of `data`; what follows the last newline is not a record yet, and may never be one."""
    end = data.rfind(b"\n") + 1
    records: list[Record] = []
    damaged = 0
    for line in data[: end - 1].split(b"\n") if end else ():
        record = _read(line)
        if record is None:
            damaged += 1
        else:
            records.append(record)
    return Scan(records, end, damaged)


def _read(line: bytes) -> Record | None:
    text = line[_CHECKSUM_DIGITS + 1 :]
    if line[: _CHECKSUM_DIGITS + 1] != b"%08x " % zlib.crc32(text):
        return None
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError:
        return None
