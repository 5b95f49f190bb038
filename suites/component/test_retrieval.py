"""The gateway's searches with the vector store mocked: the contract, and a store in which nothing is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hxp_harness.stack import RunningStack, Want
from suites.retrieval import check_refusals, found

pytestmark = pytest.mark.xdist_group("api_gateway")  # where that gateway is kept


def test_a_mocked_store_is_searched(kept: Callable[[Want], RunningStack], model_api: str, tmp_path: Path) -> None:
    """A search of a store without documents finds nothing, and what is no search is refused."""
    want = Want(folder=str(tmp_path), services=("api_gateway",), mock=True, options={"upstream": model_api})
    door = kept(want).target("api_gateway")

    assert found(door, "when does the canteen open") == []
    check_refusals(door)
