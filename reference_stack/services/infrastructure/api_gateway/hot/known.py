"""A request's head that its connection has seen before: known by its bytes, it need not be parsed again. Pure."""

from __future__ import annotations

import re

from reference_stack.services.infrastructure.api_gateway.call import Call, new_call
from reference_stack.services.infrastructure.api_gateway.head import Head

_LENGTH = re.compile(rb"\r\n(?i:content-length): ?([0-9]+)\r\n")
_HEAD_END = b"\r\n\r\n"
_MOST_DIGITS = 9
_BOUND_TO_MORE = (b"expect", b"transfer-encoding", b"upgrade")


class KnownHead:
    """What the parser made of a head; another that differs from it in the length of the body alone says the same.

    It is compared with what the very connection sends that brought it, so how long that takes tells nobody anything.
    """

    __slots__ = ("_before", "_behind", "_request_id", "_route", "head")

    def __init__(self, before: bytes, behind: bytes, route: str, head: Head) -> None:
        """`before` ends where the length's digits begin, `behind` begins where they end."""
        self._before = before
        self._behind = behind
        self._route = route
        self._request_id = head.first(b"x-request-id")
        self.head = head

    def call(self) -> Call:
        """Return the call of another request with this head."""
        return new_call(self._route, self._request_id)

    def body_in(self, data: bytes) -> bytes | None:
        """Return the body where `data` is one whole request with this head and no more; else None."""
        before, behind = self._before, self._behind
        if not data.startswith(before):
            return None
        begins = len(before)
        ends = data.find(b"\r", begins, begins + _MOST_DIGITS + 1)
        at = ends + len(behind)
        digits = data[begins:ends]
        if ends < 0 or not data.startswith(behind, ends) or not digits.isdigit() or int(digits) != len(data) - at:
            return None
        return data[at:]


def known_head(data: bytes, body: bytes, route: str, head: Head, most_bytes: int) -> KnownHead | None:
    """Return what to know the head of `data` by, one whole request of which a parser made all this; None: nothing.

    A head that is as large as one may be, `most_bytes`, is not known, for the next may have a digit more.
    """
    size = len(data) - len(body)
    if not body or size > most_bytes or not data.endswith(body) or data.find(_HEAD_END) + len(_HEAD_END) != size:
        return None
    found = _LENGTH.findall(data, 0, size)
    if len(found) != 1 or int(found[0]) != len(body) or any(head.first(name) is not None for name in _BOUND_TO_MORE):
        return None
    match = _LENGTH.search(data, 0, size)
    assert match is not None  # noqa: S101 - it was found
    return KnownHead(data[: match.start(1)], data[match.end(1) : size], route, head)
