"""Configuration in layers: who wins, who said it, what is wrong, and a reload that breaks nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.schemas.configuration import SETTINGS
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.layers import (
    Layer,
    lay,
    read_assignment,
    read_file,
    read_variables,
)
from reference_stack.schemas.configuration.problem import InvalidConfiguration
from reference_stack.services.infrastructure.configuration import create_app
from tests.reference_stack.infrastructure.conftest import eventually, serving
from tests.reference_stack.written import put


@contextmanager
def configured(environ: dict[str, str] | None = None, **settings: object) -> Iterator[httpx.Client]:
    app = create_app(ConfigurationSettings.model_validate(settings), environ or {})
    with serving(app) as url, httpx.Client(base_url=url) as http:
        yield http


def shown(http: httpx.Client, service: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = http.get(f"/configuration/{service}").json()["settings"]
    return found


def test_defaults_stand_where_nobody_speaks() -> None:
    """With no layer at all every service has its defaults, and each value says so."""
    with configured() as http:
        everything = http.get("/configuration").json()

    assert everything["services"].keys() == SETTINGS.keys()
    assert everything["services"]["api_gateway"]["timeout_s"] == {"value": 300.0, "source": "default"}
    assert everything["services"]["mixtral"]["service"]["value"] == "mixtral"


def test_later_layers_win_and_are_named(tmp_path: Path) -> None:
    """Defaults, environment, host, variables, assignments: each value names the last that set it."""
    environment, host = tmp_path / "ci.yaml", tmp_path / "host.yaml"
    environment.write_text("api_gateway: {timeout_s: 10, connect_s: 1, limits: {in_flight: 5, messages: 6}}\n")
    host.write_text("api_gateway:\n  connect_s: 2\n  limits: {in_flight: 7}\n")
    environ = {"HXP_STACK_API_GATEWAY__HEALTH_S": "3", "HXP_STACK_API_GATEWAY__LIMITS__CHOICES": "4", "OTHER": "x"}
    layers = {"environment_file": str(environment), "host_file": str(host)}

    with configured(environ, **layers, assignments=["api_gateway.health_s=4"]) as http:
        found = shown(http, "api_gateway")

    assert found["timeout_s"] == {"value": 10.0, "source": f"{environment}:1"}
    assert found["connect_s"] == {"value": 2.0, "source": f"{host}:2"}
    assert found["limits.in_flight"] == {"value": 7, "source": f"{host}:3"}
    assert found["limits.messages"] == {"value": 6, "source": f"{environment}:1"}
    assert found["limits.choices"] == {"value": 4, "source": "HXP_STACK_API_GATEWAY__LIMITS__CHOICES"}
    assert found["health_s"] == {"value": 4.0, "source": "assignment api_gateway.health_s"}
    assert found["limits.body_depth"]["source"] == "default"


@pytest.mark.owasp("LLM02:2025")
def test_secrets_are_never_shown() -> None:
    """A secret shows as stars, and its source is still told."""
    assignment = "api_gateway.upstreams={mixtral: {base_url: 'http://127.0.0.1:1/v1', api_key: s3cret}}"
    with configured(assignments=[assignment, "database.password=hunter2"]) as http:
        text = http.get("/configuration").text
        assert shown(http, "database")["password"] == {"value": "**********", "source": "assignment database.password"}

    assert "s3cret" not in text
    assert "hunter2" not in text


def test_a_bad_reload_changes_nothing_and_says_what_is_wrong(tmp_path: Path) -> None:
    """The last good configuration stays; file, key and nearest spelling are named; a good reload clears it."""
    file = tmp_path / "production.yaml"
    file.write_text("api_gateway: {timeout_s: 10}\n")
    with configured(environment_file=str(file)) as http:
        before = http.get("/configuration").json()
        file.write_text("api_gateway: {timeot_s: 20, limits: {in_flihgt: 1, messages: -1}}\ndatabse: {}\n")

        reply = http.post("/reload")

        assert (reply.status_code, reply.json()["reloaded"]) == (409, False)
        problems = {each["key"]: each for each in reply.json()["problems"]}
        assert problems["api_gateway.timeot_s"]["hint"] == "did you mean 'timeout_s'?"
        assert problems["api_gateway.limits.in_flihgt"]["hint"] == "did you mean 'in_flight'?"
        assert problems["databse"]["hint"] == "did you mean 'database'?"
        assert "greater than 0" in problems["api_gateway.limits.messages"]["problem"]
        assert {each["source"] for each in problems.values()} == {str(file)}
        assert (problems["api_gateway.timeot_s"]["line"], problems["databse"]["line"]) == (1, 2)
        after = http.get("/configuration").json()
        assert {**after, "problems": []} == before
        assert len(after["problems"]) == len(problems)
        health = http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")

        file.write_text("api_gateway: {timeout_s: 20}\n")
        good = http.post("/reload")

        assert (good.status_code, good.json()["problems"]) == (200, [])
        assert good.json()["version"] != before["version"]
        assert shown(http, "api_gateway")["timeout_s"]["value"] == 20.0
        assert http.get("/health").json()["status"] == "ready"
        metrics = http.get("/metrics").text
        assert 'hxp_configuration_reloads_total{outcome="refused"} 1.0' in metrics
        assert 'hxp_configuration_reloads_total{outcome="good"} 1.0' in metrics


def test_an_unknown_service_is_answered_with_the_nearest() -> None:
    """A misspelt name in the path is a 404 with a hint."""
    with configured() as http:
        reply = http.get("/configuration/api_gatway")

    assert (reply.status_code, reply.json()["detail"]) == (404, "no such service; did you mean 'api_gateway'?")


def test_a_bad_configuration_does_not_start(tmp_path: Path) -> None:
    """With nothing good to keep, the service refuses to start."""
    with pytest.raises(InvalidConfiguration, match="cannot be read") as refused:
        create_app(ConfigurationSettings(environment_file=tmp_path / "none.yaml"), {})

    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: [", "is not YAML"),
        ("- x", "not a mapping"),
        ("api_gateway: 5", "not a mapping"),
        ("api_gateway: {timeout_s: 1, timeout_s: 2}", "stands twice"),
        ("cache: {}\ncache: {}", "stands twice"),
        ("api_gateway: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, match: str) -> None:
    """What is no strict YAML of the right shape is an error that names the file."""
    file = tmp_path / "bad.yaml"
    file.write_text(text)

    with pytest.raises(InvalidConfiguration, match=match) as refused:
        read_file(file)

    assert refused.value.problems[0].source == str(file)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    """An empty file is a layer without a word."""
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")

    assert read_file(file).services == {}


@pytest.mark.parametrize("text", ["api_gateway", "api_gateway=1", ".x=1", "api_gateway.x=[", "=1"])
def test_a_bad_assignment_is_refused(text: str) -> None:
    """What is not SERVICE.KEY=VALUE is an error."""
    with pytest.raises(InvalidConfiguration):
        read_assignment(text)


def test_a_variable_without_a_key_is_refused() -> None:
    """A variable of our prefix that names no setting is a mistake, not noise."""
    with pytest.raises(InvalidConfiguration, match="HXP_STACK_CACHE"):
        list(read_variables({"HXP_STACK_CACHE": "1"}, "HXP_STACK_"))


def test_a_value_replaces_a_mapping_and_back() -> None:
    """A later layer may put a value where a mapping was; the sources follow."""
    upstream = {"mixtral": {"base_url": "http://127.0.0.1:1/v1"}}
    layers = [
        Layer("one", {"api_gateway": {"upstreams": upstream}}),
        Layer("two", {"api_gateway": {"upstreams": {}}}),
    ]
    effective = lay(layers)

    settings = effective.services["api_gateway"]
    assert isinstance(settings, ApiGatewaySettings)
    assert settings.upstreams.keys() == {"mixtral"}
    assert str(effective.origin("api_gateway", "upstreams.mixtral.base_url")) == "one"
    again = lay([*layers, Layer("three", {"api_gateway": {"limits": {"in_flight": 2}}})])
    assert str(again.origin("api_gateway", "limits.in_flight")) == "three"
    with pytest.raises(InvalidConfiguration, match="four"):
        lay([*layers, Layer("four", {"api_gateway": {"limits": 5}})])


@given(st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_the_last_layer_wins(values: list[int]) -> None:
    """Whatever was said before, the last word counts, and its source is named."""
    layers = [Layer(f"layer {n}", {"api_gateway": {"timeout_s": value}}) for n, value in enumerate(values)]

    effective = lay(layers)

    settings = effective.services["api_gateway"]
    assert isinstance(settings, ApiGatewaySettings)
    assert settings.timeout_s == values[-1]
    assert str(effective.origin("api_gateway", "timeout_s")) == f"layer {len(values) - 1}"


def test_files_are_watched(tmp_path: Path) -> None:
    """A file that changes is read again by itself; a bad one is refused and the last good one stays."""
    file = tmp_path / "host.yaml"
    put(file, "cache: {connections: 5}\n")
    with configured(host_file=str(file), watch_s=0.02) as http:
        put(file, "cache: {connections: 6}\n")
        eventually(lambda: shown(http, "cache")["connections"]["value"] == 6)
        put(file, "cache: {connections: none}\n")
        eventually(lambda: http.get("/health").json()["status"] == "degraded")
        assert shown(http, "cache")["connections"]["value"] == 6
        assert "hxp_configuration_current 0.0" in http.get("/metrics").text
        file.unlink()
        eventually(lambda: "cannot be read" in http.get("/health").text)
        put(file, "cache: {connections: 7}\n")
        eventually(lambda: shown(http, "cache")["connections"]["value"] == 7)
        assert http.get("/health").json()["status"] == "ready"


def test_the_schema_is_served() -> None:
    """Editors get the schema of the file that they edit."""
    with configured() as http:
        assert http.get("/schema").json()["properties"].keys() == SETTINGS.keys()
