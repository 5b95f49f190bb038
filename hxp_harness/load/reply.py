"""One HTTP response as it comes in: its bytes are parsed when they are fed, and kept until the request ends.

No socket and no clock here. Who feeds may keep back what comes in the middle of a chunked body (`patient`) and feed it
together, which costs a fraction of feeding each read.
"""

from __future__ import annotations

from collections.abc import Sequence

import httptools

from hxp_harness.load.reads import CRLF_BYTES, Place, Raw, places

LIMIT_BYTES = 64 * 1024 * 1024
_LAST_CHUNK_BYTES = len(b"0\r\n\r\n")
_LINE_END = b"\r\n"
_EMPTY_LINE = 2 * _LINE_END


class BadReply(Exception):
    """Bytes that are no HTTP response, or one that is too large."""


class Reply:
    """Receives what httptools parses. `clear` makes it ready for the next response of the same connection."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.on_body = self.parts.append  # called for every chunk: without a frame of ours
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.clear()

    def clear(self) -> None:
        self.parts.clear()
        self.status: int | None = None
        self.content_type = b""
        self.done = False
        self.keep_alive = False
        self._framed = False
        self._chunked = False
        self._received_bytes = 0
        self._body_bytes = 0
        # Of each end of a chunk, how many bytes were received by then, and how many of them are body. None where that
        # cannot be told by the sizes of the chunks alone.
        self.bounds: dict[int, int] | None = None

    @property
    def any_bytes(self) -> bool:
        return self._received_bytes > 0

    @property
    def patient(self) -> bool:
        """Whether what comes next may be kept back until it may be the end: this is within a chunked body."""
        return self._chunked and self.status is not None and not self.done

    def feed(self, received: bytes) -> None:
        """Take what one or several reads brought. Raises BadReply."""
        if self.done or self._parser is None:
            raise BadReply("bytes after the end of the response")
        bounds, self.bounds, known = self.bounds, None, len(self.parts)
        if not self._received_bytes:
            bounds = {received.find(_EMPTY_LINE) + len(_EMPTY_LINE): 0}
        self._received_bytes += len(received)
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserError as error:
            raise BadReply(f"not HTTP: {error}") from None
        if self._received_bytes > LIMIT_BYTES:
            raise BadReply(f"the response is larger than {LIMIT_BYTES} bytes")
        if bounds is not None:
            self.bounds = self._followed(bounds, self.parts[known:], received)

    def _followed(self, bounds: dict[int, int], parts: Sequence[bytes], received: bytes) -> dict[int, int] | None:
        """Return `bounds` with the ends of the chunks `parts`, which must account for every byte that was received.

        A chunk has its size in hexadecimal, a line end, its bytes and a line end; anything more (an extension, leading
        zeros, trailers) makes a larger number of bytes. A chunk that is not here whole may make a smaller one.
        """
        if not self._chunked:
            return None
        if parts and not self.done and not received.endswith(parts[-1] + _LINE_END):
            return None
        position, end = next(reversed(bounds)), self._body_bytes
        for part in parts:
            size = len(part)
            position += size + (size.bit_length() + 3) // 4 + 2 * CRLF_BYTES
            end += size
            bounds[position] = end
        self._body_bytes = end
        if self.done:
            position += _LAST_CHUNK_BYTES
            bounds[position] = end
        return bounds if position == self._received_bytes else None

    def end_of_connection(self) -> bool:
        """Tell whether the response is complete now that the server closed the connection."""
        # RFC 9112, 6.3: a response with neither length nor chunks ends with its connection.
        if self.status is not None and not self._framed:
            self.done = True
        return self.done

    def close(self) -> None:
        self._parser = None  # parser and reply hold each other, and nothing collects cycles in the hot window

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key == b"transfer-encoding":
            self._framed = True
            self._chunked = value.strip().lower() == b"chunked"
        elif key == b"content-length":
            self._framed = True
        elif key == b"content-type":
            self.content_type = value

    def on_headers_complete(self) -> None:
        if self._parser is not None:
            self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        if self.status is not None and self.status < 200:  # 100 Continue and the like precede the response
            self.status = None
            return
        self.done = True
        if self._parser is not None:
            self.keep_alive = self._parser.should_keep_alive()


def where(raws: Sequence[Raw], bounds: dict[int, int] | None) -> list[Place]:
    """Return where each read ends in the body; without `bounds` the response is parsed once more, read by read."""
    if bounds:
        return places(raws, bounds)
    reply, found = Reply(), []
    end, known, last = 0, 0, b""
    for raw in raws:
        refused = False
        try:
            reply.feed(raw[0])
        except BadReply:
            refused = True  # it was the end of the exchange
        if len(reply.parts) > known:
            last = reply.parts[-1]
            end += sum(map(len, reply.parts[known:]))
            known = len(reply.parts)
        found.append((end, not refused and (reply.done or raw[0].endswith((last, last + b"\r\n")))))
    reply.close()
    return found
