"""A server that speaks S3's API: moto's, as a process of its own on 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from reference_stack.orchestration.process import bound
from tests.reference_stack.infrastructure.conftest import eventually


@contextmanager
def s3_server(port: int) -> Iterator[str]:
    """Run one while the context lasts; yield its URL. It forgets everything when it ends."""
    url = f"http://127.0.0.1:{port}"
    argv = bound([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], os.getpid())
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: server.poll() is not None or _answers(url), within_s=60)
            assert server.poll() is None
            yield url
        finally:
            server.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False
