"""Every kind of broken model server, idle and among open requests: three ledgers agree, and the gateway heals.

Client, scripted server and usage log each keep a ledger; the invariants are those of `hxp_harness.faults.ledger`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from hxp_harness.faults.backend import Backend as Scripted
from hxp_harness.faults.ledger import Billed, ClientRow, Ended, UsageRow, breaches
from tests.reference_stack.infrastructure.conftest import Backend, Gateway, eventually, gateways, key_row, metrics
from tests.reference_stack.kill.load import Load
from tests.reference_stack.kill.processes import KEY

# Of hxp_harness.faults.behaviours those that are faults; odd framing and wrong figures are in test_gateway_failures.
FAULTS = (
    "killed_before_first_byte",
    "closed_before_first_byte",
    "killed_mid_stream",
    "closed_mid_stream",
    "headers_never_come",
    "half_headers",
    "body_stalls",
    "not_http",
    "bad_chunk_size",
    "short_body",
    "empty_200",
    "error_body_200",
    "error_event",
    "status_500",
    "status_503",
    "flapping",
)
# What a client may be told; 0 would be a connection that ended without a word (I15).
TOLD = {200, 502, 503, 504}
_BILLED = {"complete": Billed.COMPLETE, "cancelled": Billed.CANCELLED}
ROUTING = {"probe_s": 0.1, "breaker_open_s": 0.1, "stalled_s": 0.8, "whole_stalled_s": 0.8, "ask_s": 0.3}
TICK_S = 0.1  # an open stream has a token in each


@dataclass
class Site:
    """A gateway before one scripted server; what clients saw is in `client`."""

    gateway: Gateway
    server: Scripted
    client: list[ClientRow]
    statuses: set[int]
    numbers: int = 0

    @contextmanager
    def asking(self, count: int, clients: int) -> Iterator[None]:
        """Send so many requests, from so many clients, beside what happens meanwhile; wait for their ends."""
        begin, self.numbers = self.numbers, self.numbers + count
        port = urlsplit(self.gateway.url).port
        assert port is not None
        load = Load(port, self.numbers, clients, enough=True, _next=begin)
        thread = threading.Thread(target=lambda: asyncio.run(load.run()))
        thread.start()
        try:
            yield
        finally:
            thread.join(20)
            assert not thread.is_alive()
        assert len(load.rows) == count
        self.client += load.rows
        self.statuses |= load.statuses.keys()

    def ask(self, count: int, clients: int) -> None:
        with self.asking(count, clients):
            pass

    def heals(self) -> None:
        """The fault is over: without anybody's help requests are served again, and nothing is held (I7, I9)."""
        self.server.behave("healthy")
        eventually(lambda: "hxp_gateway_in_flight 0.0" in metrics(self.gateway))

        def served() -> bool:
            before = len(self.client)
            self.ask(1, 1)
            return self.client[before].ended is Ended.OK

        eventually(served)

    def usage(self) -> list[UsageRow]:
        """The usage log; what came to nothing is no part of a bill, unless its client knows that it was accepted."""
        accepted = {row.request_id for row in self.client if row.accepted}
        return [
            UsageRow(row.client_request_id, row.output_tokens, _BILLED.get(row.outcome, Billed.INTERRUPTED))
            for row in self.gateway.usage.rows
            if row.outcome != "failed" or row.client_request_id in accepted
        ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Scripted]]:
    with (
        Scripted(tick_s=TICK_S) as server,
        Backend() as unused,
        gateways(unused, tmp_path_factory.mktemp("ledgers")) as make,
    ):
        upstreams = {"scripted": {"base_url": server.base_url, "cache_salt": False}}
        yield make(upstreams=upstreams, key_rows=[key_row("k", KEY)], routing=ROUTING, timeout_s=3), server


@pytest.fixture
def site(shared: tuple[Gateway, Scripted]) -> Site:
    gateway, server = shared
    found = Site(gateway, server, [], set(), numbers=1000 * len(server.ledger()))  # ids that nobody had
    found.heals()
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_three_ledgers_agree_whatever_breaks(site: Site, fault: str) -> None:
    """Idle, and among open requests under load: none is lost, billed twice or otherwise than sent; then all is well."""
    site.server.behave(fault)
    site.ask(3, clients=3)
    site.heals()

    site.server.behave("paced")
    opened = len(site.client)
    begun = site.server.begun
    with site.asking(6, clients=6):
        eventually(lambda: site.server.begun == begun + 6)
        site.server.behave(fault)
        others = Site(site.gateway, site.server, [], set(), numbers=site.numbers)
        others.ask(9, clients=3)
        site.numbers = others.numbers
        site.server.behave("healthy")
    still_open = site.client[opened:]
    site.client += others.client
    site.heals()

    assert [row.ended for row in still_open] == [Ended.OK] * 6
    assert (site.statuses | others.statuses) <= TOLD
    eventually(lambda: settled(site))
    mine = {row.request_id for row in site.client}
    emitted = [row for row in site.server.ledger() if row.request_id in mine]
    billed = [row for row in site.usage() if row.request_id in mine]
    assert len(emitted) >= 10
    assert breaches(site.client, emitted, billed, key=site.server.key) == []


def settled(site: Site) -> bool:
    """Whether the usage log has each request that its client knows was accepted, and the server each it served."""
    written = {row.client_request_id for row in site.gateway.usage.rows}
    emitted = {row.request_id for row in site.server.ledger()}
    accepted = {row.request_id for row in site.client if row.accepted}
    return accepted <= written and {row.request_id for row in site.client if row.received_tokens} <= emitted
