"""A request that offers an upgrade, read as if it did not: there is nothing here to upgrade to."""

from __future__ import annotations

from collections.abc import Sequence

import httptools

from reference_stack.services.infrastructure.api_gateway.hot.door import lines


def head_without_upgrade(method: bytes, url: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the head of the request without its offer. Raises HttpParserError for CONNECT.

    The parser stops at a head with an offer and takes no body behind it, though clients (Java's, for one) make offers
    with requests that have one.
    """
    if method == b"CONNECT":
        raise httptools.HttpParserInvalidMethodError("this is no proxy")
    kept = [header for header in headers if header[0] not in (b"upgrade", b"connection")]
    said = b",".join(value for name, value in headers if name == b"connection").lower()
    tokens = [token.strip() for token in said.split(b",")]
    kept += [(b"connection", token) for token in (b"close", b"keep-alive") if token in tokens]
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version.encode(), lines(kept))
