"""Traces whose metrics can be computed by hand."""

from collections.abc import Callable

import pytest

from hxp_harness.trace import ErrorKind, Trace

MakeTrace = Callable[..., Trace]


@pytest.fixture
def trace() -> MakeTrace:
    """Make a trace: due at `due`, sent 1 ms later, tokens at `tokens` seconds after it was due, points or pairs."""

    def make(
        index: int = 0,
        due: float = 0.0,
        tokens: tuple[float | tuple[float, float], ...] = (0.5, 0.6, 0.8),
        replicate: int = 0,
        error: ErrorKind = ErrorKind.NONE,
        usage: int | None = None,
        asked: int = 3,
        sent: bool = True,
    ) -> Trace:
        pairs = [pair if isinstance(pair, tuple) else (pair, pair) for pair in tokens]
        return Trace(
            index=index,
            replicate=replicate,
            intended_s=due,
            asked_prompt_tokens=10,
            asked_output_tokens=asked,
            sent_s=due + 0.001 if sent else None,
            end_s=due + (pairs[-1][1] if pairs else 1.0) + 0.001,
            token_lo_s=tuple(due + low for low, _ in pairs),
            token_hi_s=tuple(due + high for _, high in pairs),
            chunks=len(pairs),
            prompt_tokens=10 if error is ErrorKind.NONE else None,
            output_tokens=usage if usage is not None else len(pairs) if error is ErrorKind.NONE else None,
            status=200,
            finish_reason="length",
            error=error,
            request_id=f"id-{index}",
        )

    return make
