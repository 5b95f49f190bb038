"""The gateway's searches with the vector store that the stack ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hxp_harness.certify.golden_process import GoldenServer
from hxp_harness.stack import RunningStack
from suites.retrieval import bring_in, check_refusals, documents, found


def test_a_real_store_is_searched(
    start_stack: Callable[..., RunningStack], golden: GoldenServer, tmp_path: Path
) -> None:
    """Documents brought in by the command are found by their tenant's key alone, until they are removed."""
    stack = start_stack("api_gateway", "vector_database", options={"upstream": golden.base_url})
    door = stack.target("api_gateway")
    settings = str(stack.services["api_gateway"]["settings_file"])
    assert found(door, "canteen") == []

    bring_in(settings, tmp_path)

    assert found(door, "when does the canteen open") == [("local.md", "The canteen opens at noon.")]
    assert found(door, "canteen", filters={"type": "eq", "key": "tenant", "value": "other"}) == []
    check_refusals(door)
    assert documents(settings, "remove", "local.md") == "local.md: removed\n"
    assert found(door, "canteen") == []
