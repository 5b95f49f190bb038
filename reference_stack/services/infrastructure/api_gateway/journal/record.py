"""The lines of a journal: a checksum, a JSON array, a newline. Pure.

Lines rather than lengths: a reader finds the next record behind a damaged one, a person can read the file, and what a
torn write leaves has no newline and so cannot be taken for a record. The checksum (CRC-32, of what stands behind it)
tells what was changed since.
"""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple
from zlib import crc32

import msgspec

from reference_stack.schemas.api.usage import Outcome, UsageRow

FORMAT = 1
# How the texts of records begin.
OPENED, ACCEPTED, FINAL = b'["opened",', b'["accepted","', b'["final","'
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


class Skim(NamedTuple):
    """The same, but the records are texts of which no more is known than that they are as they were written."""

    texts: list[bytes]
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
    return b"%08x %b\n" % (crc32(text), text)


def final_of(row: UsageRow) -> Final:
    return Final(*_fields_of(row))


def skim(data: bytes) -> Skim:
    """Return the texts in the whole lines of `data`; what follows the last newline is no record yet, and may never be.

    To read them costs several times as much (`record_of`), and shipping needs only the request's id (`id_of`).
    """
    end = data.rfind(b"\n") + 1
    texts = []
    lines = data[: end - 1].split(b"\n") if end else ()
    for line in lines:
        text = line[_CHECKSUM_DIGITS + 1 :]
        if line[: _CHECKSUM_DIGITS + 1] == b"%08x " % crc32(text):
            texts.append(text)
    return Skim(texts, end, len(lines) - len(texts))


def scan(data: bytes) -> Scan:
    """Read the whole lines of `data`."""
    found = skim(data)
    records = [record for record in map(record_of, found.texts) if record is not None]
    return Scan(records, found.whole_bytes, found.damaged + len(found.texts) - len(records))


def record_of(text: bytes) -> Record | None:
    """Return the record that stands in a line behind its checksum, None when it is none."""
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError:
        return None


def row_of(text: bytes) -> UsageRow | None:
    """Return the usage row that stands there, None for whatever else."""
    record = record_of(text)
    return record.row() if isinstance(record, Final) else None


def id_of(text: bytes, head: bytes) -> bytes:
    """Return the request's id, as JSON has it, in the text of a record that begins with `head`."""
    found = text[len(head) : text.find(b'",', len(head))]
    if b"\\" not in found:
        return found
    record = record_of(text)  # none of ours has one; its quote may not be the end
    return key_of(record.request_id) if isinstance(record, Accepted | Final) else found


def key_of(request_id: str) -> bytes:
    """Return what `id_of` returns of a record with this id."""
    return _encode(request_id)[1:-1]
