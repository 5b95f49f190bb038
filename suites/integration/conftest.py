"""The whole stack, with everything on that a deployment may have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from suites.retrieval import searched


@pytest.fixture(scope="session", autouse=True)
def _configured() -> Iterator[None]:
    """Its gateway searches documents, and metrics are collected each second, so that nobody waits for them."""
    with searched(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HXP_STACK_METRICS__COLLECTION_INTERVAL_S", "1")
        yield
