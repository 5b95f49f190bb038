"""`hxp-stack config`: what is set, who said so, what is wrong, what differs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from reference_stack.errors import SettingsError
from reference_stack.orchestration.configuring import Asked, run
from reference_stack.schemas.configuration import SETTINGS
from reference_stack.schemas.configuration.environments import find_environment
from tests.reference_stack.written import put

_ROOT = Path(__file__).parents[3]


def asked(action: str, *names: str, **more: object) -> Asked:
    return Asked(action, names, **more)  # type: ignore[arg-type]  # each test gives what fits


def test_every_value_has_its_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Default, file and line, host file, variable and option: each value names the last that set it."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    environment, host = tmp_path / "e.yaml", tmp_path / "h.yaml"
    environment.write_text(f"cache:\n  host: 127.0.0.2\n  index: 1\n  password: {{file: {secret}}}\n")
    host.write_text("cache: {index: 2}\n")
    more = {"environment": str(environment), "host_file": host, "assignments": ("cache.connections=3",)}

    assert run(asked("show", "cache", origin=True, **more), {"HXP_STACK_CACHE__CONNECT_S": "4"}) == 0

    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    rows = {key: rest.split() for key, rest in lines}
    assert rows["cache.host"] == ["127.0.0.2", f"{environment}:2"]
    assert rows["cache.index"] == ["2", f"{host}:1"]
    assert rows["cache.connect_s"] == ["4.0", "HXP_STACK_CACHE__CONNECT_S"]
    assert rows["cache.connections"] == ["3", "assignment", "cache.connections"]
    assert rows["cache.command_s"] == ["0.25", "default"]
    assert rows["cache.password"] == ["**********", "(file", f"{secret})", f"{environment}:4"]


def test_secrets_are_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No form of the command shows a secret, whichever way it came in."""
    environ = {"PG": "hunter2", "HXP_STACK_CACHE__PASSWORD": "s3cret"}  # pragma: allowlist secret
    file = tmp_path / "x.yaml"
    file.write_text("database: {password: {env: PG}}\n")

    run(asked("show", environment=str(file), origin=True), environ)
    run(asked("show", environment=str(file), as_json=True), environ)
    run(asked("diff", "local", str(file), assignments=("vector_database.api_key=k3y",)), environ)

    told = capsys.readouterr()
    assert "env PG" in told.out
    assert all(secret not in told.out + told.err for secret in ("hunter2", "s3cret", "k3y"))


def test_the_bundled_environments_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    """Without names every environment is looked at."""
    assert run(asked("validate"), {}) == 0
    assert capsys.readouterr().out == "ci: good\ngpu-server: good\nlocal: good\nproduction: good\n"


def test_every_problem_is_told_with_line_and_nearest_spelling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All problems of both files come at once, and the code is 2."""
    file, host = tmp_path / "x.yaml", tmp_path / "h.yaml"
    file.write_text("cache: {}\napi_gateway:\n  timeot_s: 1\ndatabse: {}\ncache_: 5\n")
    host.write_text("metrics:\n  timeout_s: -1\n")

    assert run(asked("validate", str(file), host_file=host), {}) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"{file}:5: cache_: is not a mapping from services to their settings",
        f"{host}:2: metrics.timeout_s: Input should be greater than 0",
    ]

    file.write_text("cache: {}\napi_gateway:\n  timeot_s: 1\ndatabse: {}\n")
    assert run(asked("validate", str(file), host_file=host), {}) == 2
    told = capsys.readouterr().err.splitlines()
    assert f"{file}:3: api_gateway.timeot_s: no such setting (did you mean 'timeout_s'?)" in told
    assert f"{file}:4: databse: no such service (did you mean 'database'?)" in told
    assert f"{host}:2: metrics.timeout_s: Input should be greater than 0" in told
    assert len(told) == 3


def test_two_environments_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """What differs is told and the code is 1; an environment does not differ from itself."""
    assert run(asked("diff", "local", "production"), {}) == 1
    told = capsys.readouterr().out.splitlines()
    file = _ROOT / "profiles" / "environments" / "production.yaml"
    there = yaml.safe_load(file.read_text(encoding="utf-8"))["database"]["host"]
    assert f"~ database.host: 127.0.0.1 -> {there}" in told
    assert "+ api_gateway.upstreams.phi3.base_url: http://127.0.0.1:11403/v1" in told
    assert run(asked("diff", "production", "local", as_json=True), {}) == 1
    tree = json.loads(capsys.readouterr().out)
    assert tree["database.host"] == {"production": there, "local": "127.0.0.1"}
    run(asked("diff", "gpu-server", "local"), {})
    assert "- api_gateway.upstreams.phi3.base_url: http://127.0.0.1:11403/v1" in capsys.readouterr().out.splitlines()
    assert run(asked("diff", "ci", "ci"), {}) == 0
    assert capsys.readouterr().out == "no difference\n"


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (asked("show", "cahe"), "did you mean 'cache'"),
        (asked("show", environment="prodction"), "did you mean 'production'"),
        (asked("diff", "ci"), "config diff local production"),
        (asked("watch"), "no file to watch"),
    ],
)
def test_a_wrong_question_is_refused(wrong: Asked, match: str) -> None:
    """What cannot be asked is said with the next thing to type."""
    with pytest.raises(SettingsError) as refused:
        run(wrong, {})

    assert match in str(refused.value)


def test_the_schema_for_editors_is_the_one_that_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """profiles/environments/schema.json is what `config schema` prints, and each environment points at it."""
    assert run(asked("schema"), {}) == 0
    schema = json.loads(capsys.readouterr().out)

    assert schema["properties"].keys() == SETTINGS.keys()
    assert json.loads((_ROOT / "profiles" / "environments" / "schema.json").read_text(encoding="utf-8")) == schema
    for file in (_ROOT / "profiles" / "environments").glob("*.yaml"):
        assert file.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    run(asked("schema", "cache"), {})
    assert json.loads(capsys.readouterr().out)["title"] == "cache"


def test_the_schema_takes_what_we_take_and_refuses_what_we_refuse() -> None:
    """An independent reader of JSON Schema agrees with us on each environment and on a misspelt key."""
    schema = json.loads((_ROOT / "profiles" / "environments" / "schema.json").read_text(encoding="utf-8"))
    check = jsonschema.Draft202012Validator(schema)
    for name in ("local", "ci", "gpu-server", "production"):
        assert list(check.iter_errors(yaml.safe_load(find_environment(name).read_text(encoding="utf-8")))) == []
    assert list(check.iter_errors({"cache": {"prot": 1}}))
    assert list(check.iter_errors({"cahe": {}}))
    assert list(check.iter_errors({"cache": {"password": {"file": "x"}}, "mixtral": {"device": "cpu"}})) == []


def test_changes_are_told_as_they_happen(tmp_path: Path) -> None:
    """`watch` says what changed, refuses what is wrong, and goes on with the last good one until Ctrl-C."""
    file = tmp_path / "x.yaml"
    file.write_text("cache: {index: 1}\n")
    argv = [sys.executable, "-m", "reference_stack", "config", "watch", "--env", str(file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        first = watching.stdout.readline()
        put(file, "cache: {index: 2}\n")
        changed, second = watching.stdout.readline(), watching.stdout.readline()
        put(file, "cache: {indx: 2}\n")
        refused, why = watching.stdout.readline(), watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        try:
            code = watching.wait(60)
        finally:
            watching.kill()

    assert changed == "~ cache.index: 1 -> 2\n"
    assert second.startswith("version ")
    assert second != first
    assert refused == f"refused: {second.strip()} stays\n"
    assert why == f"{file}:1: cache.indx: no such setting (did you mean 'index'?)\n"
    assert code == 130
