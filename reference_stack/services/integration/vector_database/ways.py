"""The ways to a server that speaks Qdrant's API: gRPC where it is preferred, REST where that does not come through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc  # type: ignore[import-untyped]  # the package has no types
import httpx
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from reference_stack.services.integration.vector_database.port import Refused, Unavailable, Unsupported

Answer = TypeVar("Answer")
Call = Callable[[AsyncQdrantClient], Awaitable[Answer]]
_REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS}
_AGAIN_S = 30.0  # after so long a way that did not come through is tried again
_UNSUPPORTED = "the vector database cannot do that"


class Ways:
    """Asks over the first of `clients` that comes through, within `timeout_s` in all.

    One that does not is left alone for 30 s. Raises Unavailable where none comes through, Unsupported and Refused.
    """

    def __init__(self, clients: Sequence[AsyncQdrantClient], timeout_s: float) -> None:
        self._clients = clients
        self._timeout_s = timeout_s
        self._blocked_until_s = [0.0] * len(clients)

    async def ask(self, call: Call[Answer]) -> Answer:
        now = time.monotonic()
        open_ways = [index for index, until in enumerate(self._blocked_until_s) if until <= now]
        *others, last = open_ways or range(len(self._clients))
        # Only the last one may take all of the time: a way that is blocked may give no answer at all.
        share_s = self._timeout_s / (len(others) + 1)
        for index in others:
            try:
                return await _asked(call, self._clients[index], share_s)
            except Unavailable:
                self._blocked_until_s[index] = time.monotonic() + _AGAIN_S
        return await _asked(call, self._clients[last], share_s)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


async def _asked(call: Call[Answer], client: AsyncQdrantClient, timeout_s: float) -> Answer:
    try:
        async with asyncio.timeout(timeout_s):
            return await call(client)
    except TimeoutError:
        raise Unavailable("the vector database did not answer in time") from None
    except grpc.aio.AioRpcError as error:
        raise _of_grpc(error) from error
    except UnexpectedResponse as error:
        raise _of_rest(error) from error
    except (ResponseHandlingException, ApiException, httpx.HTTPError, OSError) as error:
        raise Unavailable(f"the vector database cannot be asked: {type(error).__name__}") from error
    except NotImplementedError as error:  # the client's memory
        raise Unsupported(f"{_UNSUPPORTED}: {error}") from error
    except ValueError as error:  # likewise, and its checks
        raise Refused(f"the vector database refuses: {error}") from error


def _of_grpc(error: grpc.aio.AioRpcError) -> Unavailable | Refused:
    code = error.code()
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Unsupported(f"{_UNSUPPORTED}: {error.details() or 'it is not implemented'}")
    if code in _REFUSALS:
        return Refused(f"the vector database refuses: {error.details()}")
    return Unavailable(f"the vector database cannot be asked: {code.name}")


def _of_rest(error: UnexpectedResponse) -> Unavailable | Refused:
    said = error.content.decode("utf-8", "replace")
    status = error.status_code or 0
    if status == 501:
        return Unsupported(f"{_UNSUPPORTED}: {said}")
    if 400 <= status < 500:
        return Refused(f"the vector database refuses: {said}")
    return Unavailable(f"the vector database answers {status}")
