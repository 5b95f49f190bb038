"""The whole matrix: every route of the gateway, every kind of key, and what each of them gets, as one table."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from reference_stack.place import Place
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from tests.reference_stack.infrastructure.conftest import PEPPER, WHOLE, Backend, Rows, Wire, eventually, serving

TOKEN = secrets.token_urlsafe(24)
STORE = "handbook"
MADE = f"matrix-{secrets.token_hex(4)}"  # begins the ids of keys to which something is done
CHAT = {"model": "mixtral", "messages": [{"role": "user", "content": "x"}]}
VECTORS = {"data": [{"index": 0, "object": "embedding", "embedding": [1.0]}], "usage": {"prompt_tokens": 1}}

# Who asks: nobody; a secret that was never given out; a key that was revoked, one whose time is over; one for another
# model (and no store); one of another tenant; the administrator's token; and the key for which all is meant.
CALLERS = ("nobody", "stranger", "revoked", "expired", "narrow", "other", "admin", "own")
CLOSED = (401, 401, 401, 401)
OPEN = (200,) * 8
MODEL = (*CLOSED, 404, 200, 401, 200)
KEYED = (*CLOSED, 200, 200, 401, 200)
ADMIN = (401, 401, 401, 401, 401, 401, 200, 401)
MAKES = (401, 401, 401, 401, 401, 401, 201, 401)
JSON = {"content-type": "application/json"}

TABLE: Mapping[tuple[str, str], tuple[object, tuple[int, ...]]] = {
    ("POST", "/v1/chat/completions"): (CHAT, MODEL),
    ("POST", "/v1/completions"): ({"model": "mixtral", "prompt": "x"}, MODEL),
    ("POST", "/v1/embeddings"): ({"model": "vectors", "input": "x"}, MODEL),
    ("POST", "/v1/vector_stores/{store}/search"): ({"query": "x"}, MODEL),
    ("GET", "/v1/models"): (None, KEYED),
    ("GET", "/v1/usage"): (None, KEYED),
    ("GET", "/admin/keys"): (None, ADMIN),
    ("POST", "/admin/keys"): ({"name": "x"}, MAKES),
    ("GET", "/admin/keys/{key_id}"): (None, ADMIN),
    ("PATCH", "/admin/keys/{key_id}"): ({"name": "x"}, ADMIN),
    ("POST", "/admin/keys/{key_id}/rotate"): ({}, ADMIN),
    ("POST", "/admin/keys/{key_id}/revoke"): (None, ADMIN),
    ("GET", "/admin/usage"): (None, ADMIN),
    ("GET", "/admin/gateway"): (None, ADMIN),
    ("POST", "/admin/gateway/restart"): (None, ADMIN),
    ("POST", "/admin/gateway/reload"): (None, ADMIN),
    ("POST", "/admin/gateway/drain"): (None, ADMIN),
    ("GET", "/health"): (None, OPEN),
    ("GET", "/health/live"): (None, OPEN),
    ("GET", "/health/ready"): (None, OPEN),
    ("GET", "/health/startup"): (None, OPEN),
    ("GET", "/metrics"): (None, OPEN),
}
BODIES = [route for route, (body, _) in TABLE.items() if body is not None and route[1] != "/admin/keys/{key_id}/rotate"]
BAD: Mapping[str, tuple[bytes, Mapping[str, str]]] = {
    "nothing": (b"", JSON),
    "half an object": (b'{"model": ', JSON),
    "a list": (b"[]", JSON),
    "a name twice": (b'{"model": "a", "model": "b"}', JSON),
    "no number": (b'{"model": NaN}', JSON),
    "no UTF-8": (b'{"model": "\xff"}', JSON),
    "nested": (b'{"model": ' + b"[" * 200 + b"]" * 200 + b"}", JSON),
    "an unknown name": (b'{"no_such_name": "canary-7f3a"}', JSON),
    "another type": (b'{"model": "a"}', {"content-type": "text/plain"}),
}

# To an administrator nothing is an object of nothing: every term of a new key has its default.
WRONG = [
    (*route, kind) for route in BODIES for kind in BAD if not (kind == "nothing" and route[1].startswith("/admin"))
]


@dataclass
class Door:
    """A gateway with everything on, and each caller's credentials."""

    http: httpx.Client
    secrets: Mapping[str, str]
    asked: list[str]

    def ask(self, caller: str, method: str, route: str, body: object = None) -> httpx.Response:
        headers = {} if caller == "nobody" else {"authorization": f"Bearer {self.secrets[caller]}"}
        path = path_of(route)
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.request(method, path, content=content, headers=headers | (JSON if content else {}))


def path_of(route: str) -> str:
    """The route with what stands in its place: a store, and a key that this route alone may change for good."""
    deed = route.rpartition("/")[2]
    return route.format(store=STORE, key_id=f"{MADE}-{deed if deed in ('rotate', 'revoke') else 'kept'}")


async def model(wire: Wire) -> None:
    """Answer as a model of either kind does."""
    await wire.answer(json.dumps(VECTORS).encode() if wire.asked.path.endswith("embeddings") else WHOLE)


@pytest.fixture(scope="module")
def door(postgres: DatabaseSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    pepper = tmp_path_factory.mktemp("matrix") / "pepper"
    pepper.write_text(PEPPER)
    commands: list[str] = []

    async def parent(word: str) -> Mapping[str, object]:
        """Stand for the parent of all workers, which this gateway has none of."""
        commands.append(word)
        return {"ok": True, "error": ""}

    with ExitStack() as stack:
        backend = stack.enter_context(Backend())
        backend.script = model
        said = {
            "upstreams": {
                "mixtral": {"base_url": backend.url},
                "phi3": {"base_url": backend.url},
                "vectors": {"base_url": backend.url, "routes": ["embeddings"]},
            },
            "pepper_file": str(pepper),
            "database_dsn": postgres.dsn,
            "admin": {"token": TOKEN},
            "retrieval": {"stores": [STORE], "backend": "mock"},
            "open_docs": True,
        }
        app = create_app(ApiGatewaySettings.model_validate(said), usage_repository=Rows(), place=Place(command=parent))
        url = stack.enter_context(serving(app))
        http = stack.enter_context(httpx.Client(base_url=url, timeout=10, trust_env=False))
        yield Door(http, made(http), commands)


def made(http: httpx.Client) -> dict[str, str]:
    """Make the keys, as an administrator does."""
    token = {"authorization": f"Bearer {TOKEN}"}
    soon = (datetime.now(UTC) + timedelta(seconds=0.2)).isoformat()
    wanted: dict[str, dict[str, Any]] = {
        "revoked": {"tenant": "red"},
        "expired": {"tenant": "red", "expires": soon},
        "narrow": {"tenant": "red", "models": ["phi3"]},
        "other": {"tenant": "blue"},
        "own": {"tenant": "red"},
    }
    found = {"stranger": f"hxp-{secrets.token_urlsafe(32)}", "admin": TOKEN}
    for name, terms in wanted.items():
        reply = http.post("/admin/keys", json={"id": f"matrix-{name}-{secrets.token_hex(4)}", **terms}, headers=token)
        assert reply.status_code == 201, reply.text
        found[name] = reply.json()["secret"]
        if name == "revoked":
            assert http.post(f"/admin/keys/{reply.json()['id']}/revoke", headers=token).status_code == 200
    for deed in ("rotate", "revoke", "kept"):
        assert http.post("/admin/keys", json={"id": f"{MADE}-{deed}"}, headers=token).status_code == 201
    eventually(lambda: all(models(http, found[name]) == 401 for name in ("revoked", "expired")))
    return found


def models(http: httpx.Client, secret: str) -> int:
    return http.get("/v1/models", headers={"authorization": f"Bearer {secret}"}).status_code


@pytest.mark.owasp("API9:2023")
def test_the_table_is_whole(door: Door) -> None:
    """Each route of OpenAPI has a row, and each row is a route, so that a new one cannot come without."""
    paths = door.http.get("/openapi.json").json()["paths"]

    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == set(TABLE)


@pytest.mark.owasp("API1:2023", "API2:2023", "API5:2023")
@pytest.mark.parametrize(("method", "route"), list(TABLE), ids=str)
def test_each_caller_gets_what_the_table_says(door: Door, method: str, route: str) -> None:
    """Of all callers exactly those that may get in, and every refusal is OpenAI's shape and tells nothing."""
    body, expected = TABLE[method, route]

    answers = [door.ask(caller, method, route, body) for caller in CALLERS]

    assert dict(zip(CALLERS, (each.status_code for each in answers), strict=True)) == dict(
        zip(CALLERS, expected, strict=True)
    )
    for each in answers:
        if each.status_code >= 400:
            refused(each)


def refused(answer: httpx.Response) -> str:
    """Check the shape of a refusal; return its code."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert len(answer.content) < 1000
    assert "canary" not in answer.text
    return str(error["code"])


@pytest.mark.owasp("API5:2023", "API9:2023")
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_no_other_method_does_anything(door: Door, method: str) -> None:
    """A method that a route does not have is 405 or 401 for every caller, and reaches no model and no parent."""
    before = len(door.asked)
    for route in {path for _, path in TABLE}:
        if (method, route) in TABLE:
            continue
        for caller in ("nobody", "narrow", "own", "admin"):
            assert door.ask(caller, method, route).status_code in {401, 405}, (method, route, caller)
    assert len(door.asked) == before


@pytest.mark.owasp("API8:2023")
@pytest.mark.parametrize(("method", "route", "kind"), WRONG, ids=str)
def test_bad_input_is_refused_on_every_route(door: Door, method: str, route: str, kind: str) -> None:
    """Whoever may come in and sends what is no request gets a 4xx that names what is wrong, never a 5xx."""
    content, headers = BAD[kind]
    caller = "admin" if route.startswith("/admin") else "own"
    path = path_of(route)
    bearer = {"authorization": f"Bearer {door.secrets[caller]}"}

    answer = door.http.request(method, path, content=content, headers={**headers, **bearer})

    assert 400 <= answer.status_code < 500, answer.text
    assert refused(answer) != "internal_error"


@pytest.mark.owasp("API1:2023", "API3:2023")
def test_what_each_key_sees_is_its_own(door: Door) -> None:
    """The list of models has those of the key, and usage those of the key that asks."""
    seen = {
        caller: {row["id"] for row in door.ask(caller, "GET", "/v1/models").json()["data"]}
        for caller in ("narrow", "other", "own")
    }

    assert seen == {"narrow": {"phi3"}, "other": {"mixtral", "phi3", "vectors"}, "own": {"mixtral", "phi3", "vectors"}}
