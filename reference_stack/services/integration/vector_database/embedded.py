"""The embedded vector store: Qdrant's engine behind our API, on a REST port and a gRPC port of this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # the package has no types
import uvicorn

from reference_stack.errors import NotReady
from reference_stack.prompt_server import PromptServer
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.vector_database.engine import Engine
from reference_stack.services.integration.vector_database.grpc_api import add_to
from reference_stack.services.integration.vector_database.rest import create_rest

_GRACE_S = 0.3


class _Guest(PromptServer):
    """A server inside another's process: signals are its host's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(settings: VectorDatabaseSettings) -> AsyncIterator[Engine]:
    """Serve both APIs while the context lasts. Raises NotReady when a port is taken."""
    with contextlib.ExitStack() as stack:
        folder = settings.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hxp-vectors-")))
        sock = stack.enter_context(_listen(settings.host, settings.port))
        engine = Engine(folder)
        stack.callback(engine.close)
        config = uvicorn.Config(
            create_rest(engine), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        rest = _Guest(config)
        remote = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_to(remote, engine)
        try:
            remote.add_insecure_port(f"{settings.host}:{settings.grpc_port}")
        except RuntimeError:
            raise NotReady(f"vector_database: gRPC port {settings.grpc_port} is taken") from None
        await remote.start()
        serving_rest = asyncio.create_task(rest.serve(sockets=[sock]))
        try:
            yield engine
        finally:
            rest.should_exit = True
            await remote.stop(_GRACE_S)
            await serving_rest


def _listen(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise NotReady(f"vector_database: port {port}: {error.strerror}") from None
    return sock
