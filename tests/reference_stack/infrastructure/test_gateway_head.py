"""What the gateway finds in a request's headers is what stands in them, however often a name does."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.head import Head
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

NAMES = (b"host", b"authorization", b"x-a")
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([b"", b"1", b"two"])), max_size=5)


@given(HEADERS)
def test_headers_are_found_as_they_stand(headers: list[tuple[bytes, bytes]]) -> None:
    """The first of a name is the first that came, and every one is all of them in order."""
    head = Head(headers)
    for name in (*NAMES, b"x-none"):
        values = [value for each, value in headers if each == name]
        assert head.every(name) == values
        assert head.first(name) == (values[0] if values else None)


@given(HEADERS, st.integers(0, 60))
def test_a_head_is_refused_by_its_whole_size_and_its_hosts(headers: list[tuple[bytes, bytes]], most: int) -> None:
    """Headers that repeat a name count each time; there must be one Host, not none and not two."""
    size = sum(len(name) + len(value) for name, value in headers)
    hosts = sum(name == b"host" for name, _ in headers)
    code = "headers_too_large" if size > most else "invalid_host" if hosts != 1 else ""
    with pytest.raises(Refusal) if code else nullcontext() as refused:
        Head(headers).check(most)
    assert refused is None or refused.value.code == code
