"""A trace holds readings and nothing derived from them."""

import dataclasses

import pytest

from hxp_harness.trace import ErrorKind, Trace


def test_only_no_error_is_ok() -> None:
    """Every way to fail counts as a failure, and the absence of one as a success."""
    trace = Trace(index=0, replicate=0, intended_s=0.0, asked_prompt_tokens=1, asked_output_tokens=1)

    assert trace.ok
    assert [kind for kind in ErrorKind if dataclasses.replace(trace, error=kind).ok] == [ErrorKind.NONE]


def test_a_trace_does_not_change() -> None:
    """What was observed cannot be corrected later."""
    trace = Trace(index=0, replicate=0, intended_s=0.0, asked_prompt_tokens=1, asked_output_tokens=1)

    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.end_s = 1.0  # type: ignore[misc]  # that it is refused is the point
