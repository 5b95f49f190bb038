"""The headers of a request, looked through once for all who ask for one of them."""

from __future__ import annotations

from collections.abc import Sequence

from reference_stack.services.infrastructure.api_gateway.refusal import Refusal


class Head:
    """`headers` are as they came, their names in small letters."""

    __slots__ = ("_checked", "_each_once", "_first", "headers")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.headers = headers
        self._first = dict(reversed(headers))
        self._each_once = len(self._first) == len(headers)
        self._checked = False

    def first(self, name: bytes) -> bytes | None:
        """Return the first header of this name."""
        return self._first.get(name)

    def every(self, name: bytes) -> list[bytes]:
        """Return all headers of this name."""
        if self._each_once:
            value = self._first.get(name)
            return [] if value is None else [value]
        return [value for each, value in self.headers if each == name]

    def check(self, most_bytes: int) -> None:
        """Raise Refusal 431 when the headers are too large, 400 when there is not exactly one Host."""
        if self._checked:  # a connection has it for many requests
            return
        first = self._first
        size = sum(map(len, first)) + sum(map(len, first.values()))
        if not self._each_once:
            size = sum(len(name) + len(value) for name, value in self.headers)
        if size > most_bytes:
            raise Refusal(431, "headers_too_large", f"the headers are larger than {most_bytes} bytes")
        if b"host" not in first or (not self._each_once and len(self.every(b"host")) > 1):
            raise Refusal(400, "invalid_host", "the request must have one Host header", param="Host")
        self._checked = True


def pairs_in(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers of which `lines` are the lines, each with its end."""
    found = [line.partition(b": ") for line in lines.split(b"\r\n")[:-1]]
    return [(name, value) for name, _, value in found]
