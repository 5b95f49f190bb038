"""The configuration as it is now: read from all layers, shown without secrets, the last good one kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from reference_stack.schemas.configuration.base import is_reference
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.layers import (
    Effective,
    Layer,
    lay,
    read_assignment,
    read_file,
    read_variables,
    stamp_of,
)
from reference_stack.schemas.configuration.problem import InvalidConfiguration, Origin, Problem


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that was found good, when (seconds since 1970), and a digest that names it."""

    effective: Effective
    at_s: float
    version: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as people may see it: its value (a secret as stars and where it is from) and who set it."""

    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that two configurations have differently; None: it is not there."""

    key: str
    one: object
    other: object


def load(settings: ConfigurationSettings, environ: Mapping[str, str]) -> Loaded:
    """Read all layers as they are now. Raises InvalidConfiguration with every problem found."""
    layers: list[Layer] = []
    problems: list[Problem] = []
    for file in (settings.environment_file, settings.host_file):
        if file is not None:
            try:
                layers.append(read_file(file))
            except InvalidConfiguration as error:  # the other file may have problems too: people want all of them
                problems += error.problems
    layers += read_variables(environ, settings.variable_prefix)
    layers += [read_assignment(text) for text in settings.assignments]
    try:
        effective = lay(layers, environ=environ)
    except InvalidConfiguration as error:
        problems += error.problems
    if problems:
        raise InvalidConfiguration(problems)
    plain = {name: {key: row.value for key, row in show(effective, name).items()} for name in effective.services}
    digest = hashlib.sha256(msgspec.json.encode([plain, secret_digests(effective)], order="sorted")).hexdigest()
    return Loaded(effective, time.time(), digest[:16])


def secret_digests(effective: Effective) -> list[str]:
    """Return digests, so that a changed secret is a changed configuration, and never the secrets."""
    dumped = (settings.model_dump() for settings in effective.services.values())
    values = [value for each in dumped for _, value in _flat(each) if hasattr(value, "get_secret_value")]
    return [hashlib.sha256(value.get_secret_value().encode()).hexdigest() for value in values]


def show(effective: Effective, service: str) -> dict[str, Shown]:
    """Return each setting of a service by its dotted key; what is secret shows as stars and where it is from."""
    dumped = effective.services[service].model_dump(mode="json")
    said = dict(_flat(effective.said[service]))
    found = {}
    for key, value in _flat(dumped):
        reference = said.get(key)
        if isinstance(reference, Mapping) and is_reference(reference) and value:
            kind, where = next(iter(reference.items()))
            value = f"{value} ({kind} {where})"  # noqa: PLW2901 - the value as it is shown
        found[key] = Shown(value, effective.origin(service, key))
    return found


def _flat(value: object, at: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value and not is_reference(value):
        for name, each in value.items():
            yield from _flat(each, f"{at}.{name}" if at else str(name))
    else:
        yield at, value


def differences(one: Effective, other: Effective) -> list[Difference]:
    """Return the settings that differ, in the order of the services and their settings; an empty mapping is nothing."""
    found = []
    for service in one.services:
        left, right = show(one, service), show(other, service)
        for key in [*left, *(key for key in right if key not in left)]:
            a, b = left.get(key), right.get(key)
            before, after = (None if row is None or row.value == {} else row.value for row in (a, b))
            if before != after:
                found.append(Difference(f"{service}.{key}", before, after))
    return found


class Keeper:
    """Keeps the last good configuration, and what was wrong with the last attempt to read another."""

    def __init__(self, settings: ConfigurationSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._seen = self._look()
        self.loaded = load(settings, environ)
        self.problems: tuple[Problem, ...] = ()

    def reload(self) -> bool:
        """Read everything again; return whether it was good. What was good before stays until then."""
        try:
            self.loaded = load(self._settings, self._environ)
        except InvalidConfiguration as error:
            self.problems = error.problems
            return False
        self.problems = ()
        return True

    def changed(self) -> bool:
        """Whether a file is another one than at the last call; one that cannot be looked at counts as gone."""
        before, self._seen = self._seen, self._look()
        return self._seen != before

    def _look(self) -> list[tuple[int, ...]]:
        return [
            stamp_of(file) for file in (self._settings.environment_file, self._settings.host_file) if file is not None
        ]
