"""The life of a key, through the admin API and on the command line, on real PostgreSQL."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import jsonschema
import pytest

from reference_stack.__main__ import main
from reference_stack.errors import SettingsError
from reference_stack.orchestration.terms import seconds, when
from reference_stack.schemas.api.export import api_schemas
from reference_stack.schemas.api.key_admin import NewKey
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.services.infrastructure.api_gateway.app import create_app
from reference_stack.services.integration.database.postgres import PostgresDatabase
from tests.reference_stack.infrastructure.conftest import PEPPER, eventually, serving

TOKEN = "an-admin-token-for-tests-alone"
NOW = datetime(2027, 1, 1, tzinfo=UTC)
Type = Callable[..., tuple[int, str, str]]


@pytest.fixture
async def emptied(postgres: DatabaseSettings) -> DatabaseSettings:
    """A database without keys."""
    store = PostgresDatabase(postgres)
    assert await store.ping() == ""
    await store.close()
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("TRUNCATE api_key, key_spend, usage")
    await connection.close()
    return postgres


@pytest.fixture
def said(emptied: DatabaseSettings, tmp_path: Path) -> dict[str, object]:
    """The settings of a gateway on that database, with an admin API."""
    pepper = tmp_path / "pepper"
    pepper.write_text(PEPPER)
    return {
        "upstreams": {name: {"base_url": "http://127.0.0.1:9/v1"} for name in ("phi3", "hermes")},
        "pepper_file": str(pepper),
        "database_dsn": emptied.dsn,
        "admin": {"token": TOKEN},
    }


@pytest.fixture
def url(said: dict[str, object]) -> Iterator[str]:
    with serving(create_app(ApiGatewaySettings.model_validate(said))) as found:
        yield found


@pytest.fixture
def admin(url: str) -> Iterator[httpx.Client]:
    """Whoever has the token."""
    with httpx.Client(base_url=f"{url}/admin", headers={"authorization": f"Bearer {TOKEN}"}, timeout=10) as http:
        yield http


@pytest.fixture
def typed(said: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Type:
    """Types `hxp-stack keys`; returns the exit code, what was printed, and what was said beside it."""
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps(said))

    def keys(*words: str) -> tuple[int, str, str]:
        code = main(["keys", *words, "--settings", str(file)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return keys


def models(url: str, secret: str) -> object:
    """Return the models that a client with `secret` sees, or the status."""
    reply = httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {secret}"})
    return [row["id"] for row in reply.json()["data"]] if reply.status_code == 200 else reply.status_code


def test_the_life_of_a_key(admin: httpx.Client, url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Made with its terms, shown without its secret, changed, rotated with grace, revoked: clients see each at once."""
    caplog.set_level(logging.INFO)
    made = admin.post("/keys", json={"id": "ci", "tenant": "red", "models": ["phi3"], "requests_per_minute": 60})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    secret = made.json()["secret"]
    assert secret.startswith("hxp-")
    assert models(url, secret) == ["phi3"]
    shown = admin.get("/keys/ci").json()
    assert (shown["tenant"], shown["requests_per_minute"], shown["state"]) == ("red", 60, "valid")
    assert secret not in json.dumps(shown)
    assert "secret" not in shown
    changed = admin.patch("/keys/ci", json={"models": ["*"], "requests_per_minute": None, "budget_taken": 7}).json()
    assert (changed["requests_per_minute"], changed["tenant"]) == (None, "red")
    assert admin.get("/keys/ci").json()["budget_taken"] == 7
    eventually(lambda: models(url, secret) == ["phi3", "hermes"], within_s=2)
    rotated = admin.post("/keys/ci/rotate", json={"grace_s": 60}).json()
    assert models(url, rotated["secret"]) == models(url, secret) == ["phi3", "hermes"]
    assert rotated["former_secret_until"] is not None
    again = admin.post("/keys/ci/rotate").json()
    eventually(lambda: [models(url, each) for each in (secret, rotated["secret"])] == [401, 401], within_s=2)
    assert admin.post("/keys/ci/revoke").json()["state"] == "revoked"
    eventually(lambda: models(url, again["secret"]) == 401, within_s=2)
    assert admin.patch("/keys/ci", json={"name": "x"}).json()["error"]["code"] == "key_revoked"
    told = [record.getMessage() for record in caplog.records if "by an administrator" in record.getMessage()]
    assert [line.split()[3] for line in told] == ["made", "changed", "given", "given", "revoked"]
    assert not any(each in caplog.text for each in (secret, rotated["secret"], again["secret"], TOKEN))


def test_keys_are_as_their_schemas_say(admin: httpx.Client) -> None:
    """Every answer about keys has the exported shape, no field more and none less, whatever is set of a key."""
    expires = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    whole = {"id": "whole", "name": "n", "tenant": "t", "models": ["phi3"], "expires": expires, "answers": "exact"}
    limits = dict.fromkeys(("requests_per_minute", "tokens_per_minute", "concurrent", "budget_tokens"), 5)
    for asked in ({"id": "bare"}, whole | limits):
        assert NewKey.model_validate(asked).id == asked["id"]
        made = _as("key_made", admin.post("/keys", json=asked))
        assert set(made) - {"secret"} == set(_as("key_found", admin.get(f"/keys/{asked['id']}"))) - {"budget_taken"}
        _as("key", admin.patch(f"/keys/{asked['id']}", json={"name": "other"}))
        _as("key_made", admin.post(f"/keys/{asked['id']}/rotate", json={"grace_s": 60}))
        assert _as("key_found", admin.get(f"/keys/{asked['id']}"))["former_secret_until"] is not None
    _as("key_page", admin.get("/keys", params={"limit": 1}))
    assert _as("key", admin.post("/keys/whole/revoke"))["state"] == "revoked"
    assert _as("key_page", admin.get("/keys"))["after"] is None


def _as(shape: str, reply: httpx.Response) -> dict[str, object]:
    assert reply.status_code in {200, 201}, reply.text
    body: dict[str, object] = reply.json()
    jsonschema.validate(body, api_schemas()["replies"][shape])
    return body


def test_keys_are_listed_in_pages(admin: httpx.Client) -> None:
    """A page says where the next begins; a tenant's keys come alone; usage comes by key."""
    for number in range(5):
        admin.post("/keys", json={"id": f"k{number}", "tenant": "blue" if number == 3 else "red"})
    first = admin.get("/keys", params={"limit": 3}).json()
    rest = admin.get("/keys", params={"limit": 3, "after": first["after"]}).json()
    ids = [key["id"] for page in (first, rest) for key in page["data"]]
    assert (ids, rest["after"]) == (["k0", "k1", "k2", "k3", "k4"], None)
    assert [key["id"] for key in admin.get("/keys", params={"tenant": "blue"}).json()["data"]] == ["k3"]
    for asked in ({}, {"key": "k1"}):
        assert admin.get("/usage", params=asked).json()["data"] == []


MISTAKES: list[tuple[str, str, object, int, str, str | None]] = [
    ("GET", "/keys/none", None, 404, "key_not_found", None),
    ("POST", "/keys/none/revoke", None, 404, "key_not_found", None),
    ("PATCH", "/keys/none", {"name": "x"}, 404, "key_not_found", None),
    ("POST", "/keys", {"id": "taken"}, 409, "key_exists", "id"),
    ("POST", "/keys", {"id": "not an id"}, 400, "invalid_value", "id"),
    ("POST", "/keys", {"models": []}, 400, "invalid_value", "models"),
    ("POST", "/keys", {"rpm": 5}, 400, "unknown_parameter", "rpm"),
    ("POST", "/keys", {"expires": "2027-01-01T00:00:00"}, 400, "invalid_value", "expires"),
    ("POST", "/keys", {"requests_per_minute": -1}, 400, "invalid_value", "requests_per_minute"),
    ("POST", "/keys", {"tenant": "a\0b"}, 400, "invalid_value", "tenant"),
    ("POST", "/keys", "secret-echo", 400, "invalid_value", "body"),
    ("GET", "/keys?limit=0", None, 400, "invalid_value", "limit"),
    ("GET", "/usage?since=soon", None, 400, "invalid_value", "since"),
]


def test_what_is_wrong_is_named(admin: httpx.Client) -> None:
    """Each mistake has its status, code and field, and repeats no value."""
    admin.post("/keys", json={"id": "taken"})
    for method, path, body, *expected in MISTAKES:
        reply = admin.request(method, path, json=body)
        error = reply.json()["error"]
        assert [reply.status_code, error["code"], error["param"]] == expected, (method, path, body)
        assert "secret-echo" not in reply.text


@pytest.mark.owasp("API5:2023")
def test_the_admin_api_is_closed(said: dict[str, object], url: str, admin: httpx.Client) -> None:
    """Without its token nobody administers, a client neither; where none is configured there is no such route."""
    secret = admin.post("/keys", json={}).json()["secret"]
    routes = [("GET", "/keys"), ("POST", "/keys"), ("GET", "/keys/x"), ("PATCH", "/keys/x"), ("GET", "/usage")]
    routes += [("POST", "/keys/x/rotate"), ("POST", "/keys/x/revoke")]
    wrong = [{}, *({"authorization": f"Bearer {each}"} for each in ("x", secret, TOKEN[:-1], TOKEN + "x"))]
    wrong += [{"authorization": "Bearer"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": TOKEN}]
    stranger = httpx.Client(base_url=url)
    for (method, path), headers in itertools.product(routes, wrong):
        reply = stranger.request(method, f"/admin{path}", headers=headers, json={})
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_admin_token")
    stranger.close()
    assert models(url, TOKEN) == 401
    for more in ({"admin": None}, {"admin": {"token": TOKEN, "networks": ["10.0.0.0/8"]}}):
        with serving(create_app(ApiGatewaySettings.model_validate(said | more))) as other:
            reply = httpx.get(f"{other}/admin/keys", headers={"authorization": f"Bearer {TOKEN}"})
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.owasp("API8:2023")
@pytest.mark.parametrize("wrong", [{"token": "short"}, {"token": TOKEN, "networks": ["nowhere"]}, {}])
def test_a_weak_door_is_refused(said: dict[str, object], wrong: dict[str, object]) -> None:
    """A short token, a network that is none, no token: the gateway does not start."""
    with pytest.raises(ValueError, match="admin"):
        ApiGatewaySettings.model_validate(said | {"admin": wrong})
    with pytest.raises(ValueError, match="database"):
        ApiGatewaySettings.model_validate({name: said[name] for name in ("admin", "pepper_file")})


def test_the_life_of_a_key_as_typed(typed: Type, url: str) -> None:
    """Create tells the secret alone on stdout; list, show, limit, rotate and revoke do what they say."""
    assert typed("list")[1].startswith("there are no keys")
    terms = ("--tenant", "red", "--model", "phi3", "--rpm", "1_000", "--budget", "5000", "--expires", "30d")
    code, out, err = typed("create", "ci", "--label", "the build", *terms)
    secret = out.strip()
    assert (code, models(url, secret)) == (0, ["phi3"])
    assert "once" in err
    listed = typed("list")[1]
    assert "ci" in listed
    assert secret not in listed
    assert [json.loads(line)["id"] for line in typed("list", "--json")[1].splitlines()] == ["ci"]
    typed("limit", "ci", "--rpm", "none", "--tpm", "2000", "--concurrent", "3", "--answers", "exact", "--taken", "12")
    shown = json.loads(typed("show", "ci", "--json")[1])
    assert (shown["requests_per_minute"], shown["tokens_per_minute"], shown["budget_taken"]) == (None, 2000, 12)
    assert (shown["name"], shown["answers"], shown["concurrent"]) == ("the build", "exact", 3)
    assert "tokens_per_minute    2000" in typed("show", "ci")[1]
    code, out, err = typed("rotate", "ci", "--grace", "1h")
    assert models(url, out.strip()) == models(url, secret) == ["phi3"]
    assert "lives until" in err
    assert json.loads(typed("rotate", "ci", "--json")[1])["secret"].startswith("hxp-")
    assert "within a second" in typed("revoke", "ci")[1]
    assert json.loads(typed("revoke", "ci", "--json")[1])["state"] == "revoked"


MISTYPED: list[tuple[tuple[str, ...], str]] = [
    (("show",), "which key"),
    (("show", "team-x"), "near it: team-7"),
    (("create", "team-7"), "already"),
    (("create", "not an id"), "ID: "),
    (("create", "a", "--rpm", "many"), "--rpm 'many'"),
    (("create", "a", "--model", "a b"), "--model"),
    (("limit", "team-7"), "nothing to change"),
    (("limit", "team-7", "--expires", "soon"), "--expires 'soon'"),
    (("limit", "team-7", "--expires", "2020-01-01"), "is over"),
    (("rotate", "team-7", "--grace", "200d"), "--grace"),
    (("rotate", "team-7", "--grace", "an hour"), "is no time"),
]


def test_a_mistake_is_told_with_what_to_type(typed: Type) -> None:
    """Exit code 2, the thing and its place by name, and what is right near it."""
    typed("create", "team-7")
    for words, told in MISTYPED:
        code, out, err = typed(*words)
        assert (code, out) == (2, ""), words
        assert told in err


def test_where_there_is_no_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No stack, or one that keeps no keys in a database: the way out is told."""
    assert main(["keys", "list", "--folder", str(tmp_path)]) == 2
    assert "--settings" in capsys.readouterr().err
    file = tmp_path / "settings.yaml"
    file.write_text("upstreams: {}\n")
    assert main(["keys", "list", "--settings", str(file)]) == 2
    assert "no keys in a database" in capsys.readouterr().err


def test_times_as_people_say_them() -> None:
    """Spans, days, times with and without a zone, and never."""
    assert when("never", NOW) is None
    assert when("12h", NOW) == NOW + timedelta(hours=12)
    assert when("2027-02-01", NOW) == datetime(2027, 2, 1, tzinfo=UTC)
    assert when("2027-02-01T01:00+01:00", NOW) == datetime(2027, 2, 1, tzinfo=UTC)
    assert seconds("7d", "--grace") == 7 * 86_400
    with pytest.raises(SettingsError):
        when("2026-12-31", NOW)
