"""The command `hxp-stack config`: what every service is set to and who said so, before anything starts."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reference_stack.errors import SettingsError, nearest
from reference_stack.schemas.configuration import SETTINGS
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.environments import find_environment, known_environments
from reference_stack.schemas.configuration.export import environment_schema, service_schema
from reference_stack.schemas.configuration.problem import InvalidConfiguration
from reference_stack.services.infrastructure.configured import Difference, Keeper, differences, load, show

ACTIONS = ("show", "validate", "diff", "schema", "watch", "reload")
_LOOK_S = 0.5
_DIFFERS = 1  # as of diff(1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What follows `hxp-stack config`: names are services (show, schema) or environments (validate, diff)."""

    action: str
    names: tuple[str, ...] = ()
    environment: str | None = None
    host_file: Path | None = None
    assignments: tuple[str, ...] = ()
    origin: bool = False
    as_json: bool = False
    folder: Path = Path(".hxp/stack")

    def settings(self) -> ConfigurationSettings:
        file = None if self.environment is None else find_environment(self.environment)
        return ConfigurationSettings(environment_file=file, host_file=self.host_file, assignments=self.assignments)


def run(asked: Asked, environ: Mapping[str, str] | None = None) -> int:
    """Do what is asked; return the exit code: 0, 1 where a diff found any, 2 where something is wrong."""
    actions: Mapping[str, Callable[[Asked, Mapping[str, str]], int]] = {
        "show": _show,
        "validate": _validate,
        "diff": _diff,
        "schema": _schema,
        "watch": _watch,
        "reload": _reload,
    }
    return actions[asked.action](asked, os.environ if environ is None else environ)


def _services(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in SETTINGS:
            raise SettingsError(f"no service {name!r}", hint=nearest(name, SETTINGS))
    return names or list(SETTINGS)


def _show(asked: Asked, environ: Mapping[str, str]) -> int:
    services = _services(asked.names)
    effective = load(asked.settings(), environ).effective
    rows = {f"{name}.{key}": row for name in services for key, row in show(effective, name).items()}
    if asked.as_json:
        tree = {key: {"value": row.value, "origin": str(row.origin)} for key, row in rows.items()}
        print(json.dumps(tree, indent=1))
        return 0
    width = max(len(key) for key in rows)
    told = {key: _text(row.value) for key, row in rows.items()}
    column = max(len(text) for text in told.values()) if asked.origin else 0
    for key, row in rows.items():
        print(f"{key:{width}}  {told[key]:{column}}  {row.origin if asked.origin else ''}".rstrip())
    return 0


def _validate(asked: Asked, environ: Mapping[str, str]) -> int:
    names = asked.names or ((asked.environment,) if asked.environment else tuple(known_environments()))
    bad = 0
    for name in names:
        one = replace(asked, environment=name)
        try:
            load(one.settings(), environ)
            print(f"{name}: good")
        except InvalidConfiguration as error:
            bad += 1
            print("\n".join(str(problem) for problem in error.problems), file=sys.stderr)
    return SettingsError.exit_code if bad else 0


def _diff(asked: Asked, environ: Mapping[str, str]) -> int:
    if len(asked.names) != 2:
        raise SettingsError("diff compares two environments", hint="hxp-stack config diff local production")
    one, other = (load(replace(asked, environment=name).settings(), environ).effective for name in asked.names)
    found = differences(one, other)
    if asked.as_json:
        tree = {row.key: {asked.names[0]: row.one, asked.names[1]: row.other} for row in found}
        print(json.dumps(tree, indent=1))
    else:
        print("\n".join(_lines(found)) or "no difference")
    return _DIFFERS if found else 0


def _lines(found: Sequence[Difference]) -> Iterator[str]:
    for row in found:
        if row.one is None:
            yield f"+ {row.key}: {_text(row.other)}"
        elif row.other is None:
            yield f"- {row.key}: {_text(row.one)}"
        else:
            yield f"~ {row.key}: {_text(row.one)} -> {_text(row.other)}"


def _schema(asked: Asked, _environ: Mapping[str, str]) -> int:
    schemas = [service_schema(name) for name in _services(asked.names)] if asked.names else [environment_schema()]
    for schema in schemas:
        print(json.dumps(schema, indent=1))
    return 0


def _reload(asked: Asked, _environ: Mapping[str, str]) -> int:
    from reference_stack.orchestration.rereading import reload  # all that runs a stack

    return reload(asked.folder)


def _watch(asked: Asked, environ: Mapping[str, str]) -> int:
    """Say what changes, as the files change, until Ctrl-C."""
    if asked.environment is None and asked.host_file is None:
        raise SettingsError("there is no file to watch", hint="hxp-stack config watch --env local")
    keeper = Keeper(asked.settings(), environ)
    print(f"version {keeper.loaded.version}", flush=True)
    while True:
        time.sleep(_LOOK_S)  # looks at files
        if not keeper.changed():
            continue
        before = keeper.loaded.effective
        if keeper.reload():
            lines = list(_lines(differences(before, keeper.loaded.effective))) or ["nothing changed"]
            print("\n".join([*lines, f"version {keeper.loaded.version}"]), flush=True)
        else:
            print("\n".join(str(problem) for problem in keeper.problems), file=sys.stderr)
            print(f"refused: version {keeper.loaded.version} stays", flush=True)


def _text(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
