"""A client that leaves frees what it had at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from suites.conformance.wire import Server

pytestmark = pytest.mark.vllm
FREE_S = 1.0


def busy(server: Server) -> float:
    """Return the requests that run or wait."""
    return server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting")


def held(server: Server) -> float:
    """Return the share of the KV cache that is in use."""
    return server.metric("vllm:kv_cache_usage_perc")


def reached(condition: Callable[[], bool], within_s: float) -> bool:
    """Return whether `condition` came true within so many seconds."""
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)  # polls a server, with a deadline
    return True


@pytest.mark.parametrize("clients", [1, 4])
def test_hanging_up_ends_the_work(server: Server, path: str, clients: int) -> None:
    """Within a second after the clients of streams have hung up nothing runs or waits."""
    assert reached(lambda: busy(server) == 0, 5.0)
    with ExitStack() as opened:
        streams = [opened.enter_context(server.opened(path, max_tokens=1500, ignore_eos=True)) for _ in range(clients)]
        assert all(next(chunks) for chunks in streams)
        assert reached(lambda: busy(server) == clients, 5.0), busy(server)

    assert reached(lambda: busy(server) == 0, FREE_S), f"{busy(server):g} requests still run or wait for nobody"


def test_all_choices_end(server: Server) -> None:
    """A client that had asked for several choices frees all of them."""
    assert reached(lambda: busy(server) == 0, 5.0)
    with server.opened("/v1/completions", max_tokens=1500, ignore_eos=True, n=3, temperature=1) as chunks:
        assert next(chunks)
        assert reached(lambda: busy(server) == 3, 5.0), busy(server)

    assert reached(lambda: busy(server) == 0, FREE_S), f"{busy(server):g} requests still run or wait for nobody"


def test_an_abort_frees_the_cache(server: Server) -> None:
    """The KV cache of a request that was hung up on is free again."""
    with server.opened("/v1/completions", max_tokens=1500, ignore_eos=True) as chunks:
        assert next(chunks)
        assert reached(lambda: held(server) > 0, 5.0)

    assert reached(lambda: held(server) == 0, FREE_S), f"{held(server):.2%} of the KV cache are held for nobody"


def test_others_go_on(server: Server) -> None:
    """One client that leaves does not disturb another's answer."""
    alone = server.complete(max_tokens=40, ignore_eos=True)
    with server.opened("/v1/completions", max_tokens=1500, ignore_eos=True) as chunks:
        assert next(chunks)
    answer = server.complete(max_tokens=40, ignore_eos=True)

    assert answer.choice()["text"] == alone.choice()["text"]
