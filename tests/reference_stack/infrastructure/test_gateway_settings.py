"""Settings with which the gateway does not start, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from tests.reference_stack.infrastructure.conftest import ALICE, BOB, KEY, PEPPER

URL = "http://127.0.0.1:1/v1"
UPSTREAMS = {"mixtral": {"base_url": URL}, "phi3": {"base_url": URL}}


def parameter(name: str, **said: object) -> dict[str, object]:
    return {"upstreams": {"mixtral": {"base_url": URL, "parameters": {name: said}}}}


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"upstreams": {"mixtral": {"base_url": "http://127.0.0.1:1/"}}}, "must end in /v1"),
        ({"upstreams": {"mixtral": {"base_url": URL + "?x=1"}}}, "must end in /v1"),
        ({"upstreams": {"mixtral": {"base_url": "file:///v1"}}}, "URL scheme"),
        ({"upstreams": {"a b": {"base_url": URL}}}, "String should match"),
        ({"upstreams": {"mixtral": {}}}, "give base_url, or backends"),
        ({"upstreams": {"mixtral": {"base_url": URL, "backends": [{"base_url": URL}]}}}, "give base_url, or backends"),
        ({"upstreams": {"mixtral": {"api_key": "k", "backends": [{"base_url": URL}]}}}, "belong to each of them"),
        ({"upstreams": {"mixtral": {"max_in_flight": 1, "backends": [{"base_url": URL}]}}}, "belong to each of them"),
        ({"upstreams": {"mixtral": {"backends": [{"base_url": URL, "weight": 0}]}}}, "greater than or equal to 0.01"),
        ({"upstreams": {"mixtral": {"base_url": URL, "routes": []}}}, "at least 1 item"),
        ({"upstreams": {"mixtral": {"base_url": URL, "routes": ["rerank"]}}}, "'chat', 'completions' or 'embeddings'"),
        (parameter("stream", kind="boolean"), "the gateway itself sees to stream"),
        (parameter("a b", kind="boolean"), "String should match"),
        (parameter("top_a", kind="number", low=2, high=1), "low is the larger"),
        (parameter("mode", kind="one_of"), "needs them"),
        (parameter("mode", kind="text", words=["a"]), "needs them"),
        ({"routing": {"breaker_failures": 21}}, "the first cannot be the larger"),
        ({"routing": {"retry_share": 0.2}}, "less than or equal to 0.1"),
        ({"keys": ALICE}, "keys need a pepper"),
        ({"database_dsn": "postgresql://a@b/c"}, "keys need a pepper"),
        ({"pepper_file": "pepper", "pepper_env": "PEPPER"}, "not both"),
        ({"pepper_file": "missing"}, "cannot read pepper_file"),
        ({"pepper_env": "HXP_TEST_NO_SUCH_VARIABLE"}, "missing or shorter than 16 bytes"),
        ({"pepper_file": "short"}, "missing or shorter than 16 bytes"),
        ({"pepper_file": "pepper", "keys": [*ALICE, *ALICE]}, "two keys have the same id"),
        ({"pepper_file": "pepper", "keys": [*ALICE, {**ALICE[0], "id": "other"}]}, "two keys have the same hash"),
        ({"pepper_file": "pepper", "keys": BOB, "upstreams": {}}, "names a model that has no upstream: 'phi3'"),
        ({"retrieval": {"stores": []}}, "at least 1 item"),
        ({"retrieval": {"stores": ["a/b"]}}, "String should match"),
        ({"retrieval": {"stores": ["phi3"]}}, "a model and a store have the same name: 'phi3'"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"no_such_setting": 1}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, object], match: str
) -> None:
    """A gateway that would not be safe, or could not work, does not start, and says why."""
    monkeypatch.chdir(tmp_path)
    Path("pepper").write_text(PEPPER)
    Path("short").write_text("short")

    with pytest.raises(ValidationError, match=match):
        ApiGatewaySettings.model_validate({"upstreams": UPSTREAMS, **said})


def test_the_pepper_may_come_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable holds it as well as a file, and the settings hold neither key nor pepper."""
    monkeypatch.setenv("HXP_TEST_PEPPER", PEPPER)

    settings = ApiGatewaySettings.model_validate(
        {"pepper_env": "HXP_TEST_PEPPER", "keys": ALICE, "upstreams": {"mixtral": {"base_url": URL, "api_key": KEY}}}
    )

    assert settings.pepper() == PEPPER.encode()
    assert KEY not in repr(settings)
    assert PEPPER not in repr(settings)


def test_the_facts_of_the_founding_document_are_the_defaults() -> None:
    """A request may take 300 s."""
    assert ApiGatewaySettings().timeout_s == 300.0
