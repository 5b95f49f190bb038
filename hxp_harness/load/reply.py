"""One HTTP response as it comes in: bytes fed with their times, kept until the request ends. No socket here."""

from __future__ import annotations

import httptools

from hxp_harness.load.answer import Read

BODY_LIMIT_BYTES = 64 * 1024 * 1024


class BadReply(Exception):
    """Bytes that are no HTTP response, or one that is too large."""


class Reply:
    """Receives what httptools parses. `clear` makes it ready for the next response of the same connection."""

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.clear()

    def clear(self) -> None:
        self.parts: list[bytes] = []
        self.reads: list[Read] = []
        self.body_bytes = 0
        self.status: int | None = None
        self.content_type = b""
        self.done = False
        self.keep_alive = False
        self.any_bytes = False
        self._framed = False

    def feed(self, received: bytes, lo_ns: int, hi_ns: int, last_lo_ns: int) -> None:
        """Take what one read brought; times as in Read. Raises BadReply."""
        if self.done or self._parser is None:
            raise BadReply("bytes after the end of the response")
        self.any_bytes = True
        before = self.body_bytes
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserError as error:
            raise BadReply(f"not HTTP: {error}") from None
        if self.body_bytes == before:
            return
        if self.body_bytes > BODY_LIMIT_BYTES:
            raise BadReply(f"the body is larger than {BODY_LIMIT_BYTES} bytes")
        if not (self.done or received.endswith((self.parts[-1], self.parts[-1] + b"\r\n"))):
            last_lo_ns = lo_ns  # the read ends within the next chunk: its stamp may be that of later bytes
        self.reads.append(Read(self.body_bytes, lo_ns, hi_ns, last_lo_ns))

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
        if key in {b"content-length", b"transfer-encoding"}:
            self._framed = True
        elif key == b"content-type":
            self.content_type = value

    def on_headers_complete(self) -> None:
        if self._parser is not None:
            self.status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)
        self.body_bytes += len(part)

    def on_message_complete(self) -> None:
        if self.status is not None and self.status < 200:  # 100 Continue and the like precede the response
            self.status = None
            return
        self.done = True
        if self._parser is not None:
            self.keep_alive = self._parser.should_keep_alive()
