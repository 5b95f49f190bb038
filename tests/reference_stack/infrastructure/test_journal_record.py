"""A journal's bytes give back what was written, or less of it, and never anything else."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import fields, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.schemas.api.usage import UsageRow, WrittenRows
from reference_stack.services.infrastructure.api_gateway.journal.fold import Fold
from reference_stack.services.infrastructure.api_gateway.journal.marks import Progress
from reference_stack.services.infrastructure.api_gateway.journal.record import (
    ACCEPTED as ACCEPTED_HEAD,
)
from reference_stack.services.infrastructure.api_gateway.journal.record import (
    FINAL as FINAL_HEAD,
)
from reference_stack.services.infrastructure.api_gateway.journal.record import (
    FORMAT,
    Accepted,
    Final,
    Opened,
    Record,
    final_of,
    id_of,
    key_of,
    line_of,
    row_of,
    scan,
    skim,
)

ROW = UsageRow("id-1", "", "alice", "red", "mixtral", "/v1/completions", "complete", 200, True, 7, 3, True, 10.0, 0.1)
ACCEPTED = Accepted("id-1", "", "alice", "red", "mixtral", "/v1/completions", True, 10.0, 0, 1)

texts = st.text(st.characters(codec="utf-8"), max_size=12)
seconds = st.floats(0, 4e9)
counts = st.integers(0, 2**62)
accepted = st.builds(
    Accepted, texts, texts, texts, texts, texts, texts, st.booleans(), seconds, counts, st.integers(1, 2**32 - 1)
)
outcomes = st.sampled_from(["complete", "interrupted", "cancelled", "failed"])
finals = st.builds(
    Final,
    *(texts,) * 6,
    outcomes,
    st.integers(100, 599),
    st.booleans(),
    st.none() | counts,
    counts,
    st.booleans(),
    seconds,
    seconds,
    st.booleans(),
)
records: st.SearchStrategy[Record] = st.just(Opened(FORMAT)) | accepted | finals


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(records, max_size=8), st.data())
def test_a_segment_cut_off_anywhere_gives_its_whole_lines(written: list[Record], data: st.DataObject) -> None:
    """Whatever byte a segment ends at, what is read of it is a prefix of what was written."""
    lines = [line_of(record) for record in written]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))

    found = scan(whole[:cut])

    assert found.records == written[: len(found.records)]
    assert found.whole_bytes == sum(map(len, lines[: len(found.records)]))
    assert cut - found.whole_bytes < len(lines[len(found.records)]) if cut < len(whole) else found.records == written
    assert found.damaged == 0


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(records, min_size=1, max_size=5), st.data())
def test_a_changed_byte_costs_its_own_line_alone(written: list[Record], data: st.DataObject) -> None:
    """Damage is counted, is never taken for a record, and leaves the lines around it readable."""
    lines = [line_of(record) for record in written]
    victim = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[victim]) - 2))
    was = lines[victim][place]
    now = data.draw(st.integers(0, 255).filter(lambda byte: byte not in {was, ord("\n")}))
    lines[victim] = lines[victim][:place] + bytes([now]) + lines[victim][place + 1 :]

    found = scan(b"".join(lines))

    assert found.records == written[:victim] + written[victim + 1 :]
    assert found.damaged == 1


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(records, max_size=6), st.lists(st.integers(0, 3000), max_size=5))
def test_a_segment_may_be_read_in_any_pieces(written: list[Record], cuts: list[int]) -> None:
    """Reading on from where whole lines ended gives the same records as reading at once."""
    whole = b"".join(map(line_of, written))
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    found: list[Record] = []
    rest = b""
    for start, end in itertools.pairwise(edges):
        scanned = scan(rest + whole[start:end])
        rest = (rest + whole[start:end])[scanned.whole_bytes :]
        found += scanned.records

    assert found == written
    assert rest == b""


@settings(deadline=None)  # a busy machine is no failure
@given(finals)
def test_a_row_comes_back_as_it_was(final: Final) -> None:
    """A usage row survives its way through a line."""
    assert final_of(final.row()) == final
    assert scan(line_of(final)).records == [final]


def test_a_record_has_every_column_of_a_row() -> None:
    """A column that rows gain is written down too."""
    assert Final.__struct_fields__ == tuple(field.name for field in fields(UsageRow))


def test_half_a_character_does_not_cost_the_row() -> None:
    """A name that UTF-8 cannot hold is written with a mark in its place."""
    (found,) = scan(line_of(final_of(replace(ROW, tenant="a\ud800b")))).records

    assert isinstance(found, Final)
    assert found.row() == replace(ROW, tenant="a?b")


@pytest.mark.parametrize("text", [b"{}", b'["final"]', b"not json", b"", b'["accepted",1,2]'])
def test_a_sound_line_that_is_no_record_is_damaged(text: bytes) -> None:
    """The checksum alone makes no record."""
    line = line_of(Opened(FORMAT)).replace(b'["opened",1]', text)
    assert scan(b"%08x " % zlib.crc32(text) + line.partition(b" ")[2]).damaged == 1


def test_an_open_request_becomes_interrupted_as_far_as_it_came() -> None:
    """What was accepted and has no end is billed by its mark, with the status that its client can have seen."""
    fold = Fold()
    bob = Accepted("id-2", "c", "bob", "", "phi3", "/v1/completions", False, 11.0, 4, 9)
    fold.read(texts_of(ACCEPTED, bob), 1)
    marks = {(0, 1): Progress(started=True, tokens=5), (4, 9): Progress(started=False, tokens=0)}

    first, second = fold.left(lambda mark, serial: marks[mark, serial], ended_at_s=12.5)

    assert first == replace(ROW, outcome="interrupted", prompt_tokens=None, output_tokens=5, exact=False, took_s=2.5)
    assert (second.request_id, second.outcome, second.status, second.output_tokens) == ("id-2", "interrupted", 500, 0)
    assert math.isclose(second.took_s, 1.5)


def test_a_segment_is_needed_until_all_that_it_accepted_is_stored() -> None:
    """An end in a later segment is no reason to let go of the acceptance before its row is stored."""
    fold = Fold()
    assert list(fold.read(texts_of(ACCEPTED), 1)) == []
    assert fold.needs(1)
    rows = fold.read(texts_of(final_of(ROW)), 2)
    assert list(rows) == [ROW]
    assert fold.needs(1)

    fold.stored()

    assert not fold.needs(1)
    assert not fold.open


def test_a_row_whose_acceptance_is_damaged_is_stored_all_the_same() -> None:
    """The end of a request says all that a row needs."""
    fold = Fold()
    assert list(fold.read(texts_of(final_of(ROW)), 3)) == [ROW]

    fold.stored()

    assert not fold.needs(3)


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=12), st.text(max_size=12))
def test_a_request_is_known_by_its_id_whatever_stands_in_it(name: str, other: str) -> None:
    """Quotes, commas and backslashes in an id, in whatever order, end no other request than its own."""
    first = msgspec.structs.replace(ACCEPTED, request_id=name, client_request_id=other)
    (accepted,) = texts_of(first)
    (final,) = texts_of(msgspec.structs.replace(final_of(ROW), request_id=name, client_request_id=other))

    assert id_of(accepted, ACCEPTED_HEAD) == id_of(final, FINAL_HEAD) == key_of(name.encode(errors="replace").decode())


def test_a_text_that_is_no_row_is_left_out_of_the_rows() -> None:
    """Rows that were written down are read one by one when somebody looks, and what is none of them is passed over."""
    (good,) = texts_of(final_of(ROW))
    rows = WrittenRows([good, b'["final","id-2"]', *texts_of(ACCEPTED)], row_of)

    assert list(rows) == [ROW]
    assert len(rows) == 1
    assert rows[:1] == [ROW]
    assert rows.json == f'[{good.decode()},["final","id-2"],{texts_of(ACCEPTED)[0].decode()}]'


def texts_of(*written: Record) -> list[bytes]:
    """Return the texts of records as a segment gives them back."""
    return skim(b"".join(map(line_of, written))).texts
