"""A head that is known by its bytes says what the parser would have made of them."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.asked import CHAT
from reference_stack.services.infrastructure.api_gateway.head import Head
from reference_stack.services.infrastructure.api_gateway.hot.known import KnownHead, known_head

FIRST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
LAST = b"Authorization: Bearer key\r\n\r\n"


class Parsed:
    """What a parser that begins here makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.bodies: list[bytes] = []
        self.ends = 0
        self.wrong = False
        try:
            httptools.HttpRequestParser(self).feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.wrong = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.bodies.append(body)

    def on_message_complete(self) -> None:
        self.ends += 1

    @property
    def whole(self) -> bool:
        """Whether it was one request and no more."""
        return not self.wrong and self.ends == 1

    def rest(self) -> list[tuple[bytes, bytes]]:
        return [header for header in self.headers if header[0] != b"content-length"]


def known(data: bytes) -> KnownHead | None:
    parsed = Parsed(data)
    return known_head(data, b"".join(parsed.bodies), CHAT, Head(parsed.headers), 1000) if parsed.whole else None


LENGTH_LINES = st.sampled_from(
    [b"Content-Length: %d\r\n", b"content-length:%d\r\n", b"Content-Length:  %d\r\n", b"content-length: %d \r\n", b""]
)
MORE_LINES = st.sampled_from(
    [b"", b"X-Note: content-length: 3\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"Content-Length: 1\r\n"]
)
BODIES = st.binary(max_size=12) | st.sampled_from([b"{}", b"\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n"])
DIGITS = st.sampled_from([b"%d", b"0%d", b"+%d", b"%d ", b"%dx", b"", b"999999999999%d"])


@given(LENGTH_LINES, MORE_LINES, BODIES, BODIES, DIGITS, st.binary(max_size=4), st.integers(0, 300))
@example(b"Content-Length: %d\r\n", b"", b"{}", b"{1}", b"%d", b"", 300)
@example(b"Content-Length: %d\r\n", b"", b"{}", b"{1}", b"0%d", b"", 300)
def test_what_is_known_is_what_is_parsed(
    line: bytes, more: bytes, first: bytes, second: bytes, digits: bytes, behind: bytes, cut: int
) -> None:
    """Of any bytes behind a head that was learned, those that are taken for a request are one, with the same headers
    but for the length, and the same body.
    """
    told = line % len(first) if line else line
    found = known(FIRST + told + more + LAST + first)
    if found is None:
        return
    told = line.replace(b"%d", digits.replace(b"%d", b"%d" % len(second)))
    data = (FIRST + told + more + LAST + second + behind)[:cut]

    body = found.body_in(data)

    if body is not None:
        parsed = Parsed(data)
        assert parsed.whole
        assert b"".join(parsed.bodies) == body
        assert parsed.rest() == [header for header in found.head.headers if header[0] != b"content-length"]


@pytest.mark.parametrize("size", [1, 99, 100, 70_000])
def test_the_next_request_of_a_client_is_known(size: int) -> None:
    """Another body of any length behind the same head is taken, without the parser."""
    head = FIRST + b"Content-Length: %d\r\n" + LAST
    found = known(head % 2 + b"{}")
    assert found is not None
    assert found.body_in(head % size + b"x" * size) == b"x" * size
    for wrong in (
        head % size + b"x" * (size + 1),
        head % size + b"x" * (size - 1),
        b"\r\n" + head % size + b"x" * size,
    ):
        assert found.body_in(wrong) is None


@pytest.mark.parametrize("more", [b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"X: y\r\nContent-Length: 2\r\n"])
def test_what_means_more_than_a_body_is_not_learned(more: bytes) -> None:
    """A head after which a client waits, offers or contradicts itself is parsed each time."""
    data = FIRST + b"Content-Length: 2\r\n" + more + LAST + b"{}"
    headers = [(b"host", b"x"), (b"content-length", b"2")]
    headers += [(line.split(b": ")[0].lower(), line.split(b": ")[1]) for line in more.split(b"\r\n") if line]
    assert known_head(data, b"{}", CHAT, Head(headers), 1000) is None
