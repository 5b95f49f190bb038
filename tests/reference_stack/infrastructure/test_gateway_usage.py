"""No accepted request is lost from the usage rows, and the counters agree with them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence

import pytest

from reference_stack.errors import SettingsError
from reference_stack.schemas.api.usage import UsageRow
from reference_stack.services.infrastructure.api_gateway.asked import CHAT
from reference_stack.services.infrastructure.api_gateway.database import database_at
from reference_stack.services.infrastructure.api_gateway.measures import Measures
from reference_stack.services.infrastructure.api_gateway.usage import UsageLog
from tests.reference_stack.infrastructure.conftest import (
    ALICE,
    KEY,
    Gateway,
    MakeGateway,
    Rows,
    chat,
    eventually,
)

ROW = UsageRow("id-2", "", "alice", "", "mixtral", CHAT, "complete", 200, False, 7, 3, True, 1.0, 0.1)


def metric(gateway: Gateway, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", gateway.http.get("/metrics").text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_rows_wait_while_the_database_is_out(make_gateway: MakeGateway, caplog: pytest.LogCaptureFixture) -> None:
    """Requests go on, one line says so, and every row is there once the database is back."""
    caplog.set_level("INFO")
    gateway = make_gateway()
    gateway.usage.out = True
    for _ in range(3):
        assert gateway.post(chat()).status_code == 200
    eventually(lambda: metric(gateway, "hxp_gateway_usage_rows_held") == 3)

    gateway.usage.out = False

    gateway.usage.last(3)
    eventually(lambda: metric(gateway, "hxp_gateway_usage_rows_held") == 0)
    assert metric(gateway, "hxp_gateway_usage_rows_stored_total") == 3
    assert len({row.request_id for row in gateway.usage.rows}) == 3
    assert sum("usage rows cannot be stored" in line for line in caplog.messages) == 1
    eventually(lambda: any("are stored again" in line for line in caplog.messages))


def test_with_no_room_for_rows_requests_are_refused(make_gateway: MakeGateway) -> None:
    """What could not be written down is not served; it is told to come back."""
    gateway = make_gateway(usage_rows_held=2)
    gateway.usage.out = True
    assert [gateway.post(chat()).status_code for _ in range(2)] == [200, 200]

    reply = gateway.post(chat())

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    gateway.usage.out = False
    gateway.usage.last(2)
    eventually(lambda: gateway.post(chat()).status_code == 200)


def test_a_row_that_is_refused_holds_nothing_back(make_gateway: MakeGateway, caplog: pytest.LogCaptureFixture) -> None:
    """One bad row ends in the log, word for word, and the others are stored."""
    gateway = make_gateway()
    gateway.usage.out = True
    gateway.usage.bad = {"bad"}
    for name in ("one", "bad", "two"):
        gateway.post(chat(), **{"x-request-id": name})
    gateway.usage.out = False

    gateway.usage.last(2)

    assert [row.client_request_id for row in gateway.usage.rows] == ["one", "two"]
    eventually(lambda: metric(gateway, "hxp_gateway_usage_rows_refused_total") == 1)
    assert any('"client_request_id":"bad"' in line for line in caplog.messages)


def test_a_refused_request_has_no_row(gateway: Gateway) -> None:
    """Only what was accepted is written down."""
    gateway.post(b"{")
    gateway.post({**chat(), "model": "nope"})
    gateway.post(chat())

    assert gateway.usage.last().status == 200
    assert len(gateway.usage.rows) == 1


def test_counters_agree_with_the_rows(make_gateway: MakeGateway) -> None:
    """Tokens, outcomes and requests are counted as they are written down."""
    gateway = make_gateway()
    gateway.post(chat())
    gateway.post(chat(stream=True))
    gateway.usage.last(2)

    assert metric(gateway, 'hxp_gateway_tokens_total{kind="prompt",model="mixtral"}') == 14
    assert metric(gateway, 'hxp_gateway_tokens_total{kind="output",model="mixtral"}') == 6
    assert metric(gateway, 'hxp_gateway_outcomes_total{model="mixtral",outcome="complete"}') == 2
    name = 'hxp_gateway_requests_total{model="mixtral",route="/v1/chat/completions",status="200"}'
    assert metric(gateway, name) == 2


def test_labels_stay_bounded(make_gateway: MakeGateway) -> None:
    """Names that clients make up add no label."""
    gateway = make_gateway()
    for number in range(20):
        gateway.post({**chat(), "model": f"made-up-{number}"})
        gateway.http.get(f"/made-up-{number}")

    text = gateway.http.get("/metrics").text

    assert "made-up" not in text
    assert metric(gateway, 'hxp_gateway_requests_total{model="",route="other",status="404"}') == 20


@pytest.mark.owasp("LLM02:2025", "LLM07:2025")
def test_one_line_a_request_and_no_secret_in_it(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """The log says who asked what of which model and what it cost; prompt, answer and key stay out of it."""
    caplog.set_level("INFO")
    gateway.post(chat(), **{"x-request-id": "logged"})
    lines = eventually(lambda: [each for each in caplog.messages if '"client_id":"logged"' in each])

    assert len(lines) == 1
    line = json.loads(lines[0])
    assert (line["event"], line["status"], line["model"], line["key"]) == ("request", 200, "mixtral", "alice")
    assert (line["prompt_tokens"], line["output_tokens"], line["outcome"]) == (7, 3, "complete")
    for secret in (KEY, "say one two", "one two"):
        assert secret not in caplog.text


def test_rows_left_at_shutdown_are_tried_once_more_and_then_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What the database does not take at the end is in the log, row by row."""

    async def story(rows: Rows) -> None:
        usage = UsageLog(rows, Measures(()), most_held=10)
        usage.put(ROW)
        await usage.close()

    rows = Rows()
    asyncio.run(story(rows))
    assert len(rows.rows) == 1
    assert "lost" not in caplog.text

    asyncio.run(story(Rows(out=True)))
    assert "usage rows lost at shutdown: 1" in caplog.text
    assert '"request_id":"id-2"' in caplog.text


def test_a_database_that_hangs_does_not_hold_the_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last try is bounded."""
    monkeypatch.setattr("reference_stack.services.infrastructure.api_gateway.usage._LAST_TRY_S", 0.05)

    class Hangs(Rows):
        async def add(self, rows: Sequence[UsageRow]) -> None:
            await asyncio.sleep(60 * len(rows))

    async def story() -> None:
        usage = UsageLog(Hangs(), Measures(()), most_held=10)
        usage.put(ROW)
        async with asyncio.timeout(2):
            await usage.close()

    asyncio.run(story())


def test_a_gateway_with_its_database_out_serves(make_gateway: MakeGateway) -> None:
    """With PostgreSQL away requests are served, ready says degraded and names it, and its keys stay out."""
    gateway = make_gateway(database_dsn="postgresql://citadel:pass@127.0.0.1:1/citadel_ai", key_rows=ALICE)

    health = gateway.http.get("/health")

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["dependencies"]["database"]
    assert "pass" not in health.text
    assert gateway.post(chat()).status_code == 200
    assert gateway.http.get("/v1/models", headers={"authorization": "Bearer unknown"}).status_code == 503


@pytest.mark.parametrize(
    "dsn", ["", "x", "mysql://a@b/c", "postgresql:///x", "postgresql://a@b:notaport/c", "postgresql://a@b:70000/c"]
)
def test_a_dsn_that_is_none_is_refused(dsn: str) -> None:
    """A wrong URL stops the start with a hint, and is not repeated."""
    with pytest.raises(SettingsError, match="database_dsn") as refused:
        database_at(dsn)

    assert refused.value.hint.startswith("for example: postgresql://")


def test_without_a_database_rows_are_not_kept() -> None:
    """Where there is nobody to store rows, they do not fill the memory until requests are refused."""

    async def story() -> None:
        usage = UsageLog(None, Measures(()), most_held=1)
        usage.put(ROW)
        assert not usage.full
        await usage.run()
        await usage.close()

    asyncio.run(story())


@pytest.mark.parametrize("hot_path", [True, False])
def test_what_vllm_counts_too_has_its_names(make_gateway: MakeGateway, hot_path: bool) -> None:
    """First token and time a token of streams, whole answers, tokens, running and waiting: each once for each model."""
    gateway = make_gateway(hot_path=hot_path)
    for streams in (True, True, False):
        assert gateway.post(chat(stream=streams)).status_code == 200
    assert gateway.post(chat(stream=True, model="unknown")).status_code == 404
    counts = {
        "time_to_first_token_seconds_count": 2,
        "request_time_per_output_token_seconds_count": 2,
        "e2e_request_latency_seconds_count": 3,
        "prompt_tokens_total": 21,
        "generation_tokens_total": 9,
        "num_requests_running": 0,
        "num_requests_waiting": 0,
    }
    expected = {f'hxp_gateway_{name}{{model_name="mixtral"}} {count:.1f}' for name, count in counts.items()}
    eventually(lambda: expected <= set(gateway.http.get("/metrics").text.splitlines()))
    assert gateway.http.get("/metrics").text.count("hxp_gateway_time_to_first_token_seconds_count{") == 1
