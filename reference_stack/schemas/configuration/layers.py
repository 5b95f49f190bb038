"""Lays configuration over configuration: who said what of each setting, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from reference_stack.errors import nearest
from reference_stack.schemas.configuration import SETTINGS, settings_class
from reference_stack.schemas.configuration.base import ServiceSettings, is_reference
from reference_stack.schemas.configuration.marked import NotYaml, read_marked
from reference_stack.schemas.configuration.problem import InvalidConfiguration, Origin, Problem, explain
from reference_stack.schemas.configuration.secrets import secret_keys

DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says: service -> its settings, nested as the settings are; and the line of each key in a file."""

    source: str
    services: Mapping[str, Mapping[str, object]]
    lines: Mapping[str, int] = field(default_factory=dict)
    in_file: bool = False

    def origin(self, key: str) -> Origin:
        return Origin(self.source, self.lines.get(key))


@dataclass(slots=True)
class Effective:
    """The settings of each service, what was said of them, and the origin of every "key.of.it" that is no default."""

    services: dict[str, ServiceSettings] = field(default_factory=dict)
    said: dict[str, dict[str, object]] = field(default_factory=dict)
    origins: dict[str, dict[str, Origin]] = field(default_factory=dict)

    def origin(self, service: str, key: str) -> Origin:
        """Return who set `key` (dotted), or something that it is part of."""
        origins = self.origins.get(service, {})
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            found = origins.get(".".join(parts[:length]))
            if found is not None:
                return found
        return DEFAULT


def stamp_of(file: Path) -> tuple[int, ...]:
    """Return what changes when `file` does; () when it cannot be looked at."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_file(path: Path) -> Layer:
    """Return the layer in a YAML file. Raises InvalidConfiguration with every problem of its shape."""
    name = str(path)
    try:
        marked = read_marked(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfiguration([Problem(name, "", f"cannot be read: {error.strerror}")]) from None
    except NotYaml as error:
        raise InvalidConfiguration([Problem(name, "", f"is not YAML: {error.problem}", line=error.line)]) from None
    except UnicodeDecodeError as error:
        raise InvalidConfiguration([Problem(name, "", f"is not YAML: {error.reason}")]) from None
    tree = {} if marked.tree is None else marked.tree
    shape = "is not a mapping from services to their settings"
    if not isinstance(tree, dict):
        raise InvalidConfiguration([Problem(name, "", shape, line=1)])
    wrong = [str(key) for key, each in tree.items() if not isinstance(each, dict)]
    if wrong:
        raise InvalidConfiguration([Problem(name, key, shape, line=marked.lines.get(key)) for key in wrong])
    return Layer(name, tree, marked.lines, in_file=True)


def _secrets_told(layer: Layer) -> Iterator[Problem]:
    """A secret in a file of an environment would be in every copy of it."""
    for service, said in layer.services.items():
        if service not in SETTINGS:
            continue
        for key in secret_keys(settings_class(service), said):
            value: object = said
            for part in key.split("."):
                value = value[part] if isinstance(value, Mapping) else None
            if value not in (None, "") and not is_reference(value):
                hint = "give {file: PATH} or {env: NAME}"
                full = f"{service}.{key}"
                yield Problem(layer.source, full, "a secret does not stand in a file", hint, layer.lines.get(full))


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
        said = read_marked(value).tree
    except NotYaml:
        raise InvalidConfiguration([Problem(source, ".".join(path), "its value is not YAML")]) from None
    for name in reversed(path[1:]):
        said = {name: said}
    assert isinstance(said, dict)  # noqa: S101 - the path has two parts at least
    return Layer(source, {path[0]: said})


def lay(
    layers: Sequence[Layer],
    classes: Callable[[str], type[ServiceSettings]] = settings_class,
    environ: Mapping[str, str] | None = None,
) -> Effective:
    """Return the configuration that `layers` make, later ones over earlier. Raises InvalidConfiguration.

    Secrets that are given as {env: NAME} are looked up in `environ`, the process's own unless given.
    """
    effective = Effective(said={name: {} for name in SETTINGS}, origins={name: {} for name in SETTINGS})
    problems = [problem for layer in layers if layer.in_file for problem in _secrets_told(layer)]
    for layer in layers:
        for service, said in layer.services.items():
            if service not in SETTINGS:
                line = layer.lines.get(service)
                problems.append(Problem(layer.source, service, "no such service", nearest(service, SETTINGS), line))
            else:
                _merge(effective.said[service], said, effective.origins[service], layer, service)
    context = {"environ": os.environ if environ is None else environ}
    for service, said in effective.said.items():
        kind = classes(service)
        named = {"service": service} if "service" in kind.model_fields else {}
        try:
            effective.services[service] = kind.model_validate(named | said, context=context)
        except ValidationError as error:
            problems += [_problem(effective, service, kind, dict(each)) for each in error.errors()]
    if problems:
        raise InvalidConfiguration(problems)
    return effective


def _problem(effective: Effective, service: str, kind: type[ServiceSettings], error: Mapping[str, object]) -> Problem:
    key, problem, hint = explain(kind, error)
    origin = effective.origin(service, key)
    return Problem(origin.source, f"{service}.{key}" if key else service, problem, hint, origin.line)


def _merge(
    into: dict[str, object],
    said: Mapping[str, object],
    origins: dict[str, Origin],
    layer: Layer,
    above: str,
    at: str = "",
) -> None:
    for name, value in said.items():
        key = f"{at}{name}"
        under = into.get(name)
        if isinstance(value, dict) and isinstance(under, dict) and not is_reference(value) and not is_reference(under):
            _merge(under, value, origins, layer, above, f"{key}.")
            continue
        into[name] = _copy(value)
        for old in [each for each in origins if each == key or each.startswith(f"{key}.")]:
            del origins[old]
        origins.update({leaf: layer.origin(f"{above}.{leaf}") for leaf in _leaves(value, key)})


def _copy(value: object) -> object:
    return {name: _copy(each) for name, each in value.items()} if isinstance(value, dict) else value


def _leaves(value: object, at: str) -> Iterator[str]:
    if isinstance(value, dict) and value and not is_reference(value):
        for name, each in value.items():
            yield from _leaves(each, f"{at}.{name}")
    else:
        yield at
