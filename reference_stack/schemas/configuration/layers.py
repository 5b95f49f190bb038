"""Lays configuration over configuration: who said what of each setting, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from reference_stack.errors import SettingsError, nearest
from reference_stack.schemas.configuration import SETTINGS, settings_class
from reference_stack.schemas.configuration.base import Settings

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says: service -> its settings, nested as the settings are."""

    source: str
    services: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: which source says it, of which "service.key", and the nearest right spelling or ""."""

    source: str
    key: str
    problem: str
    hint: str = ""


class InvalidConfiguration(SettingsError):
    """The layers together make no valid configuration; `problems` names every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.source}: {first.key}: {first.problem}{more}", hint=first.hint)
        self.problems = tuple(problems)


@dataclass(slots=True)
class Effective:
    """The settings of each service, and the source of every "key.of.it" that is not a default."""

    services: dict[str, Settings] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)

    def source(self, service: str, key: str) -> str:
        """Return who set `key` (dotted), or something that it is part of."""
        sources = self.sources.get(service, {})
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            found = sources.get(".".join(parts[:length]))
            if found is not None:
                return found
        return DEFAULT


def read_file(path: Path) -> Layer:
    """Return the layer in a YAML file. Raises InvalidConfiguration; a key that stands twice is an error."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Strict)  # noqa: S506 - safe, and stricter  # nosec B506
    except OSError as error:
        raise InvalidConfiguration([Problem(path.name, "", f"cannot be read: {error.strerror}")]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration([Problem(path.name, "", f"is not YAML: {error}")]) from None
    raw = {} if raw is None else raw
    if not isinstance(raw, dict) or not all(isinstance(each, dict) for each in raw.values()):
        raise InvalidConfiguration([Problem(path.name, "", "is not a mapping from services to their settings")])
    return Layer(path.name, raw)


class _Strict(yaml.SafeLoader):
    """A key that stands twice in a mapping is an error: the reader of the file sees only one of the two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_variables(environ: Mapping[str, str], prefix: str) -> Iterator[Layer]:
    """Yield a layer a variable `<prefix>SERVICE__KEY[__KEY]=VALUE`, names in any case; values are YAML."""
    for name in sorted(environ):
        if name.startswith(prefix):
            yield _single(name, name.removeprefix(prefix).lower().split("__"), environ[name])


def read_assignment(text: str) -> Layer:
    """Return the layer of "SERVICE.KEY[.KEY]=VALUE"; the value is YAML."""
    path, equals, value = text.partition("=")
    if not equals:
        hint = "for example: api_gateway.timeout_s=60"
        raise InvalidConfiguration([Problem("assignment", text, "is not SERVICE.KEY=VALUE", hint)])
    return _single(f"assignment {path}", path.split("."), value)


def _single(source: str, path: Sequence[str], value: str) -> Layer:
    if len(path) < 2 or not all(path):
        raise InvalidConfiguration([Problem(source, ".".join(path), "names no setting of a service")])
    try:
        said: object = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InvalidConfiguration([Problem(source, ".".join(path), "its value is not YAML")]) from None
    for name in reversed(path[1:]):
        said = {name: said}
    assert isinstance(said, dict)  # noqa: S101 - the path has two parts at least
    return Layer(source, {path[0]: said})


def lay(layers: Sequence[Layer], classes: Callable[[str], type[Settings]] = settings_class) -> Effective:
    """Return the configuration that `layers` make, later ones over earlier. Raises InvalidConfiguration."""
    raw: dict[str, dict[str, object]] = {name: {} for name in SETTINGS}
    effective = Effective(sources={name: {} for name in SETTINGS})
    problems = []
    for layer in layers:
        for service, said in layer.services.items():
            if service not in raw:
                problems.append(Problem(layer.source, service, "no such service", nearest(service, SETTINGS)))
            else:
                _merge(raw[service], said, effective.sources[service], layer.source)
    for service, said in raw.items():
        kind = classes(service)
        named = {"service": service} if "service" in kind.model_fields else {}
        try:
            effective.services[service] = kind.model_validate(named | said)
        except ValidationError as error:
            problems += [_problem(effective, service, kind, dict(each)) for each in error.errors()]
    if problems:
        raise InvalidConfiguration(problems)
    return effective


def _merge(
    into: dict[str, object], said: Mapping[str, object], sources: dict[str, str], source: str, at: str = ""
) -> None:
    for name, value in said.items():
        key = f"{at}{name}"
        under = into.get(name)
        if isinstance(value, dict) and isinstance(under, dict):
            _merge(under, value, sources, source, f"{key}.")
            continue
        into[name] = _copy(value)
        for old in [each for each in sources if each == key or each.startswith(f"{key}.")]:
            del sources[old]
        sources.update(dict.fromkeys(_leaves(value, key), source))


def _copy(value: object) -> object:
    return {name: _copy(each) for name, each in value.items()} if isinstance(value, dict) else value


def _leaves(value: object, at: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(each, f"{at}.{name}")
    else:
        yield at


def _problem(effective: Effective, service: str, kind: type[BaseModel], error: Mapping[str, Any]) -> Problem:
    path = [str(part) for part in error["loc"]]
    key = ".".join([service, *path])
    hint = nearest(path[-1], _known(kind, path[:-1])) if error["type"] == "extra_forbidden" else ""
    return Problem(effective.source(service, ".".join(path)), key, error["msg"], hint)


def _known(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return the names that are right beside the last one of a path into the settings `kind`."""
    for name in path:
        info = kind.model_fields.get(name)
        inner = None if info is None else next(_models_in(info.annotation), None)
        kind = inner or kind
    return list(kind.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)
