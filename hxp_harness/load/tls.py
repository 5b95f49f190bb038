"""TLS between a socket and its bytes, so that the kernel's receive stamps are kept under https too."""

from __future__ import annotations

import ssl

_RECORD_HEADER_BYTES = 5
_READ_BYTES = 65536


class TlsLayer:
    """Client side of one connection: ciphertext in, plaintext out, and the other way round.

    A read's stamp is exact for its last plaintext byte only where the read ends with a TLS record; `at_boundary` says.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._waiting: list[bytes] = []
        self._open = False
        self._header = b""
        self._record_left = 0
        self._handshake()

    @property
    def at_boundary(self) -> bool:
        """Whether everything received so far is whole records."""
        return self._record_left == 0 and not self._header

    def seal(self, plain: bytes) -> bytes:
        """Return what to send for `plain`; while the handshake runs, that is kept for later."""
        if self._open:
            self._tls.write(plain)
        else:
            self._waiting.append(plain)
        return self._outgoing.read()

    def open(self, received: bytes) -> tuple[bytes, bytes]:
        """Return the plaintext in `received`, and what must be sent now. Raises ssl.SSLError."""
        self._follow_records(received)
        self._incoming.write(received)
        if not self._open and not self._handshake():
            return b"", self._outgoing.read()
        parts = []
        try:
            while part := self._tls.read(_READ_BYTES):
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # all that there is; the end of the connection shows on the socket
        return b"".join(parts), self._outgoing.read()

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._open = True
        for plain in self._waiting:
            self._tls.write(plain)
        self._waiting.clear()
        return True

    def _follow_records(self, received: bytes) -> None:
        """Keep account of record ends: RFC 8446, 5.1, type (1), version (2), length (2), then so many bytes."""
        position = 0
        while position < len(received):
            if self._record_left:
                step = min(self._record_left, len(received) - position)
                self._record_left -= step
                position += step
                continue
            missing = _RECORD_HEADER_BYTES - len(self._header)
            self._header += received[position : position + missing]
            position += missing
            if len(self._header) == _RECORD_HEADER_BYTES:
                self._record_left = int.from_bytes(self._header[3:5])
                self._header = b""
