"""Servers that more than one folder of tests asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reference_stack.vector_store import VectorStore, vector_store


@pytest.fixture(scope="session")
def real_vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    """A real vector store of this session's own; whoever poisons or stops it heals it."""
    with vector_store(tmp_path_factory.mktemp("vectors")) as found:
        yield found
