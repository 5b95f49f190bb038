"""The short way and the FastAPI path are one gateway: the same answers, and the same usage rows, whatever is sent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reference_stack.schemas.api.usage import UsageRow
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from tests.reference_stack.infrastructure.conftest import ALICE, BOB, PEPPER, Backend, Rows, eventually, serving
from tests.reference_stack.infrastructure.gateway_cases import BODY_BYTES, Case, broken, cases, kept, model, play

# A short form for CI; `nox -s gateway_fuzz` asks for more.
CASES = int(os.environ.get("HXP_GATEWAY_CASES", "300"))
LIMITS = {"body_bytes": BODY_BYTES, "header_bytes": 8192, "headers_s": 2.0, "body_s": 0.8, "idle_s": 5.0}


@dataclass
class Pair:
    """One gateway on each path, before the same model."""

    hot: str
    fastapi: str
    hot_rows: Rows
    fastapi_rows: Rows
    played: int = 0
    answers: list[int] = field(default_factory=list)

    same: int = 0  # so many rows of each were found the same

    def settled(self) -> bool:
        """Whether both have written the same since this was last so."""
        hot, fastapi = self.hot_rows.rows[self.same :], self.fastapi_rows.rows[self.same :]
        if len(hot) != len(fastapi) or shape(hot) != shape(fastapi):
            return False
        self.same += len(hot)
        return True


def shape(rows: list[UsageRow]) -> list[UsageRow]:
    """The rows without what differs from one time to the next, in an order of their own."""
    same = [dataclasses.replace(row, request_id="", accepted_at_s=0.0, took_s=0.0) for row in rows]
    return sorted(same, key=repr)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pepper = tmp_path_factory.mktemp("pair") / "pepper"
    pepper.write_text(PEPPER)
    with Backend() as backend:
        backend.script = model
        hot_rows, fastapi_rows = Rows(), Rows()
        hot_app = _app(backend, pepper, hot_rows, hot_path=True)
        fastapi_app = _app(backend, pepper, fastapi_rows, hot_path=False)
        with serving(hot_app) as hot, serving(fastapi_app) as fastapi:
            yield Pair(hot, fastapi, hot_rows, fastapi_rows)


def _app(backend: Backend, pepper: Path, rows: Rows, *, hot_path: bool) -> FastAPI:
    said = {
        "upstreams": {"mixtral": {"base_url": backend.url}, "phi3": {"base_url": backend.url}},
        "pepper_file": str(pepper),
        "keys": (*ALICE, *BOB),
        "limits": LIMITS,
        "hot_path": hot_path,
    }
    return create_app(ApiGatewaySettings.model_validate(said), usage_repository=rows)


def play_both(pair: Pair, drawn: st.SearchStrategy[Case], count: int) -> None:
    """Send `count` cases to both paths; raises where they differ in an answer or a row."""

    @given(case=drawn)
    @example(case=broken())
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize="HXP_GATEWAY_CASES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Case) -> None:
        hot, fastapi = play(pair.hot, case), play(pair.fastapi, case)
        assert hot == fastapi
        eventually(pair.settled)
        pair.played += 1
        pair.answers += [answer.status for answer in hot]

    before = pair.played
    run()
    assert pair.played >= before + count
    eventually(pair.settled)


def test_both_paths_are_one(pair: Pair) -> None:
    """Whatever a client sends, and however it is cut, both paths answer the same and write the same rows."""
    play_both(pair, cases(), CASES)

    # The cases reach what they are meant to reach; what is rare needs many.
    rare = {405, 413, 431} if CASES >= 1000 else set()
    assert {100, 200, 400, 401, 404, 429, 502} | rare <= set(pair.answers)
    assert {row.outcome for row in pair.hot_rows.rows} == {"complete", "failed", "interrupted"}


def test_both_paths_are_one_over_a_kept_connection(pair: Pair) -> None:
    """So they do where a client repeats itself: requests with one head and other bodies, one after another."""
    play_both(pair, kept(), CASES // 8)
