"""What the gateway's story asks of what stands behind its seams, seen by stand-ins that keep a record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.upstream import BackendSettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.infrastructure.api_gateway.asked import Asked
from reference_stack.services.infrastructure.api_gateway.backend import Backend as Where
from reference_stack.services.infrastructure.api_gateway.backend import backend_of
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.ports import Ended, Mark, Ports, in_task
from reference_stack.services.infrastructure.api_gateway.refusal import overloaded
from tests.reference_stack.infrastructure.conftest import (
    ALICE,
    DEADLINE_S,
    DONE,
    KEY,
    PEPPER,
    TEXTS,
    WHOLE,
    Backend,
    Rows,
    Script,
    Wire,
    chat,
    eventually,
    raw,
    serving,
    well,
)
from tests.reference_stack.infrastructure.conftest import Gateway as Served


@dataclass
class Record:
    """All four seams in one: says what was asked of it, in order."""

    backends: list[Where]
    told: list[object] = field(default_factory=list)
    lines: bytes = b"x-ratelimit-remaining-requests: 7\r\n"
    settled: list[int] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    retries: bool = True
    full: bool = False
    waits: bool = False

    async def synced(self) -> None:
        self.told.append("synced")

    def accept(self, call: Call) -> None:
        self.told.append(("accept", call.outcome))

    def progress(self, call: Call) -> None:
        self.told.append(("progress", call.texts))

    def marker(self, call: Call) -> Mark:
        del call
        return Mark(self, 0, 0)

    def __setitem__(self, place: int, word: int, /) -> None:
        assert place == 0
        self.told.append(("progress", word))

    def final(self, call: Call) -> None:
        self.told.append(("final", call.outcome))

    def take_at_once(self, _key: ApiKey, _estimated_tokens: int) -> None:
        return None

    async def take(self, key: ApiKey, estimated_tokens: int) -> Record:
        await in_task()
        self.told.append(("take", key.id, estimated_tokens > 0))
        return self

    def settle(self, tokens: int) -> None:
        self.settled.append(tokens)

    def pick(self, _call: Call, _asked: Asked, tried: Sequence[Where]) -> Leased | None:
        return Leased(self.backends[len(tried) % len(self.backends)], self) if tried else None

    async def wait(self, _call: Call, _asked: Asked) -> Leased:
        await in_task()
        return Leased(self.backends[0], self)

    def again(self, _call: Call, _asked: Asked, tried: Sequence[Where], _how: Ended, _status: int) -> bool:
        return self.retries and len(tried) < len(self.backends)

    def wants(self, _call: Call, asked: Asked) -> bool:
        return asked.request.get("user") == "cached"

    async def find(self, _call: Call, asked: Asked) -> bytes | None:
        return self.kept.get(json.dumps(asked.request))

    async def keep(self, _call: Call, asked: Asked, answer: bytes) -> None:
        self.kept[json.dumps(asked.request)] = answer


@dataclass
class Leased:
    backend: Where
    record: Record
    heard: bool = False

    @property
    def ear(self) -> Leased:
        return self

    def held(self) -> None:
        pass

    def released(self) -> None:
        pass

    def end(self, how: Ended, status: int = 0, rest_s: float = 0.0) -> None:
        del rest_s  # tested with the router
        self.record.told.append((how, status))


@dataclass
class Told:
    """A gateway whose seams are a record, and two backends behind it."""

    gateway: Served
    record: Record
    second: Backend


@pytest.fixture
def told(backend: Backend, tmp_path: Path) -> Iterator[Told]:
    (tmp_path / "pepper").write_text(PEPPER)
    with Backend() as second:
        upstreams = {"mixtral": {"base_url": backend.url}}
        settings = ApiGatewaySettings.model_validate(
            {"upstreams": upstreams, "keys": ALICE, "pepper_file": str(tmp_path / "pepper")}
        )
        places = [backend_of(BackendSettings.model_validate({"base_url": each.url})) for each in (backend, second)]
        record = Record(places)
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        app = create_app(settings, ports=Ports(record, record, record, record))
        with serving(app) as url, httpx.Client(base_url=url, headers=headers, timeout=DEADLINE_S) as http:
            yield Told(Served(url, backend, Rows(), http), record, second)


async def closes(wire: Wire) -> None:
    """Close without a byte."""


async def busy(wire: Wire) -> None:
    await wire.answer(b"{}", 503)


async def breaks(wire: Wire) -> None:
    await wire.stream(*TEXTS[:2])


def finals(told: Told, count: int = 1) -> list[object]:
    """Wait until `count` requests are over; return what was told of all."""

    def over() -> bool:
        ends = sum(each[0] == "final" for each in told.record.told if isinstance(each, tuple))
        return bool(ends == len(told.record.settled) == count)

    eventually(over)
    return told.record.told


def test_an_answer_in_order(told: Told) -> None:
    """Limits, then the journal, then the backend; the grant is settled with the model's own figures."""
    assert told.gateway.post(chat()).content == WHOLE

    assert finals(told) == [
        ("take", "alice", True),
        ("accept", None),
        ("final", "complete"),  # before the last bytes go out
        (Ended.OK, 200),
    ]
    assert told.record.settled == [10]


def test_progress_is_written_before_it_is_passed_on(told: Told) -> None:
    """Each part of a stream is told to the journal first, so that no client has more than is written down."""
    assert told.gateway.post(chat(stream=True)).content == b"".join((*TEXTS, DONE))

    progress = [each[1] for each in finals(told) if isinstance(each, tuple) and each[0] == "progress"]
    assert progress == sorted(progress)
    assert progress[-1] == 3
    assert told.record.settled == [10]


@pytest.mark.parametrize(("script", "how"), [(closes, (Ended.BEFORE, 0)), (busy, (Ended.REFUSED, 503))])
@pytest.mark.parametrize("stream", [False, True])
def test_a_backend_that_fails_before_the_first_byte(
    told: Told, script: Script, how: tuple[Ended, int], stream: bool
) -> None:
    """Another one is asked, the client sees nothing of it, and the request is accepted and settled once."""
    told.gateway.backend.script = script

    assert told.gateway.post(chat(stream=stream)).status_code == 200

    ends = [each for each in finals(told) if isinstance(each, tuple) and isinstance(each[0], Ended)]
    assert ends == [how, (Ended.OK, 200)]
    assert len(told.second.asked) == 1
    assert told.record.settled == [10]


def test_both_backends_fail(told: Told) -> None:
    """When nowhere is left to ask, the client hears of the last failure; a request that no model saw costs nothing."""
    told.gateway.backend.script = closes
    told.second.script = closes

    assert told.gateway.post(chat()).status_code == 502

    assert finals(told)[-1] == ("final", "failed")
    assert told.record.settled == [0]


def test_nothing_is_tried_again_behind_the_first_byte(told: Told) -> None:
    """A stream that broke off is told as broken; what was relayed of it is what it costs, beside the prompt."""
    told.gateway.backend.script = breaks

    assert b"upstream_failed" in told.gateway.post(chat(stream=True)).content

    assert (Ended.AFTER, 200) in finals(told)
    assert told.second.asked == []
    assert told.record.settled != [0]


async def silent(wire: Wire) -> None:
    await wire.wait_gone()


def test_a_departure_gives_everything_back(told: Told) -> None:
    """A client that leaves returns the backend and the grant, each once, and the backend is not blamed."""
    told.gateway.backend.script = silent
    body = json.dumps(chat()).encode()
    with raw(told.gateway) as sock:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        eventually(lambda: told.gateway.backend.asked)

    assert finals(told)[-2:] == [(Ended.CANCELLED, 0), ("final", "cancelled")]
    assert len(told.record.settled) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_from_the_cache(told: Told, stream: bool) -> None:
    """A kept answer is the same bytes, marked as kept, asks no model, and has the tokens of the first."""
    first = told.gateway.post(chat(user="cached", stream=stream))
    eventually(lambda: told.record.kept)
    told.gateway.backend.script = closes
    told.record.retries = False

    again = told.gateway.post(chat(user="cached", stream=stream))

    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert first.headers["x-hxp-cache"] == "miss"
    assert again.headers["x-hxp-cache"] == "hit"
    assert len(told.gateway.backend.asked) == 1
    assert finals(told, 2).count(("final", "complete")) == 2
    assert sorted(told.record.settled) == [0, 10]  # the first may be settled last: its stream is read to the end


def test_a_full_journal_refuses(told: Told) -> None:
    """What cannot be written down is not accepted: 503 with Retry-After, and no limit is touched."""
    told.record.full = True

    reply = told.gateway.post(chat())

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert told.record.told == []
    told.record.full = False
    assert told.gateway.post(chat()).status_code == 200
    assert told.gateway.backend.script is well


def test_an_acceptance_that_cannot_be_written_is_none(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills at that moment refuses the request: no model sees it, nothing is billed, its grant is back."""

    def refuse(_call: Call) -> None:
        raise overloaded("no room")

    monkeypatch.setattr(told.record, "accept", refuse)

    assert told.gateway.post(chat()).status_code == 503

    assert told.record.settled == [0]
    assert told.gateway.backend.asked == []
    assert not any(isinstance(each, tuple) and each[0] == "final" for each in told.record.told)


def test_a_journal_that_waits_is_waited_for(told: Told) -> None:
    """Where a loss of power must not undo an acceptance, the model is asked only after the disk has it."""
    told.record.waits = True

    assert told.gateway.post(chat()).status_code == 200

    assert finals(told)[1:4] == [("accept", None), "synced", ("final", "complete")]
