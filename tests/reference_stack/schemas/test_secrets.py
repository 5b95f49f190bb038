"""Secrets by reference: read where they are needed, shown nowhere, refused where they stand in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from reference_stack.schemas.configuration.database import DatabaseSettings
from reference_stack.schemas.configuration.layers import Layer, lay, read_file
from reference_stack.schemas.configuration.problem import InvalidConfiguration


def test_a_secret_is_read_from_its_file_or_variable(tmp_path: Path) -> None:
    """{file: PATH} and {env: NAME} become the secret; the newline at the end of a file is not part of it."""
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    said = {"database": {"password": {"file": str(file)}}, "cache": {"password": {"env": "REDIS_PASSWORD"}}}

    services = lay([Layer("x", said)], environ={"REDIS_PASSWORD": "s3cret"}).services

    assert services["database"].model_dump()["password"].get_secret_value() == "hunter2"
    assert services["cache"].model_dump()["password"].get_secret_value() == "s3cret"


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ({"file": "/no/such/file"}, "cannot be read from /no/such/file: No such file"),
        ({"file": "/proc/self/exe"}, "it is not text"),
        ({"env": "NOT_SET_ANYWHERE"}, "no variable NOT_SET_ANYWHERE"),
        ({"vault": "x"}, "is {file: PATH} or {env: NAME}"),
        ({"file": "a", "env": "b"}, "is {file: PATH} or {env: NAME}"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(reference: dict[str, str], match: str) -> None:
    """A secret that cannot be had stops the start, and says where it was looked for."""
    with pytest.raises(ValidationError, match=match):
        DatabaseSettings.model_validate({"password": reference})


def test_a_secret_in_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    """Every secret that stands in a file is named by line and key, never by value; nested ones too."""
    file = tmp_path / "x.yaml"
    file.write_text(
        "database:\n"
        "  password: hunter2\n"
        "api_gateway:\n"
        "  upstreams:\n"
        "    phi3: {base_url: 'http://127.0.0.1:1/v1', api_key: sk-1}\n"
        "    odd: 5\n"
        "cache: {password: '', no_such: {}}\n"
        "vector_database: {api_key: {env: HOME}}\n"
    )

    with pytest.raises(InvalidConfiguration) as refused:
        lay([read_file(file)])

    told = {(each.line, each.key) for each in refused.value.problems if "does not stand in a file" in each.problem}
    assert told == {(2, "database.password"), (5, "api_gateway.upstreams.phi3.api_key")}
    assert {each.key for each in refused.value.problems} >= {"cache.no_such", "api_gateway.upstreams.odd"}
    assert all(secret not in str(each) for each in refused.value.problems for secret in ("hunter2", "sk-1"))
