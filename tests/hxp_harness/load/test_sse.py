"""Events are split as the standard says, wherever the bytes were cut."""

from hypothesis import given
from hypothesis import strategies as st

from hxp_harness.load.sse import Event, split_events


def data_of(body: bytes) -> list[bytes]:
    return [event.data for event in split_events(body)]


def reference(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return name and data of each event, read byte by byte straight from the standard's text."""
    text = body.removeprefix(b"\xef\xbb\xbf")
    lines, line, place = [], b"", 0
    while place < len(text):
        byte = text[place : place + 1]
        if byte in b"\r\n":
            place += 2 if text[place : place + 2] == b"\r\n" else 1
            lines.append(line)
            line = b""
        else:
            line += byte
            place += 1
    found, data, name = [], None, b""
    for line in lines:
        if not line:
            if data is not None:
                found.append((name, data))
            data, name = None, b""
        elif not line.startswith(b":"):
            key, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if key == b"data":
                data = value if data is None else data + b"\n" + value
            elif key == b"event":
                name = value
    return found


PIECES = st.sampled_from(
    [
        b"data",
        b"event",
        b"id",
        b":",
        b": ",
        b" ",
        b"x",
        b"{}",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data: a\n\n",
        b"\xe2\x80\xa8",
    ]
)


@given(st.lists(PIECES, max_size=40), st.booleans())
def test_any_bytes_are_split_as_the_standard_says(pieces: list[bytes], bom: bool) -> None:
    """Whatever the line ends, comments, names and blanks: the same events as a literal reading of the standard."""
    body = (b"\xef\xbb\xbf" if bom else b"") + b"".join(pieces)
    assert [(event.name, event.data) for event in split_events(body)] == reference(body)


def test_each_line_end_ends_a_line() -> None:
    """CR, LF and CRLF are line ends, mixed too."""
    assert data_of(b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\r\n\n") == [b"a", b"b", b"c", b"d"]


def test_a_line_separator_of_unicode_ends_nothing() -> None:
    """U+2028 and its like are text."""
    assert data_of("data: a\u2028b\u0085c\n\n".encode()) == ["a\u2028b\u0085c".encode()]


def test_data_lines_join_and_comments_vanish() -> None:
    """Several data lines are one event, a comment is none."""
    assert data_of(b": ping\n\ndata: a\n: more\ndata:b\n\n") == [b"a\nb"]


def test_an_event_without_its_blank_line_is_no_event() -> None:
    """What was cut before its end does not count."""
    assert data_of(b"data: a\n\ndata: b\n") == [b"a"]


def test_an_event_ends_behind_its_blank_line() -> None:
    """The offset says which read completed the event."""
    assert list(split_events(b"\xef\xbb\xbfdata: a\n\nevent: e\ndata: b\n\n")) == [
        Event(b"a", 12),
        Event(b"b", 30, b"e"),
    ]
    assert [event.end for event in split_events(b"data: a\r\n\r\ndata: b\r\n\r\n")] == [11, 22]
