"""The gateway of the stack with its key, or --target with a key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hxp_harness.stack import RunningStack
from hxp_harness.target import Target


@pytest.fixture(scope="session")
def door(request: pytest.FixtureRequest, start_stack: Callable[..., RunningStack]) -> Target:
    """Where clients come in: --target where it is given, else the gateway before a simulated model."""
    if request.config.getoption("--target") is not None:
        target: Target = request.getfixturevalue("target")
        return target
    return start_stack("api_gateway").target("api_gateway")
