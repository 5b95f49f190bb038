"""The whole stack, with everything on that a deployment may have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from suites.retrieval import searched


@pytest.fixture(scope="session", autouse=True)
def _searched() -> Iterator[None]:
    """Its gateway searches documents."""
    with searched():
        yield
