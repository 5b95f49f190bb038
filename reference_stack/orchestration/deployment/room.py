"""The place a stack is built in: its folders, its ports, and the settings files written for its services."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self, TypeVar

from reference_stack.catalogue import load_catalogue
from reference_stack.orchestration import ports, readiness
from reference_stack.orchestration.deployment.want import MODELS, Want
from reference_stack.orchestration.supervisor import Unit
from reference_stack.schemas.common.limits import UNLIMITED, Limits
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.base import Settings, read_at_start
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.layers import Effective
from reference_stack.schemas.configuration.problem import InvalidConfiguration, Problem

log = logging.getLogger(__name__)
HOST = ports.HOST
Kind = TypeVar("Kind", bound=Settings)


class Room:
    """Files and ports of one stack. A context: on the way out, the ports are free again."""

    def __init__(self, want: Want, say: Callable[[str], None] = log.info) -> None:
        self.want = want
        self.say = say  # of what takes long, and of what will be started
        self.notes: list[str] = []  # what a person should know of this stack
        self._reserved: dict[str, ports.Reservation] = {}
        self._ours: dict[str, Mapping[str, object]] = {}  # by service: settings that only this stack can know

    def __enter__(self) -> Self:
        for part in ("logs", "settings", "data", "secrets"):
            (self.want.folder / part).mkdir(parents=True, exist_ok=True, mode=0o700 if part == "secrets" else 0o755)
        return self

    def __exit__(self, *_: object) -> None:
        for reservation in self._reserved.values():
            reservation.close()
        self._reserved.clear()

    @property
    def logs(self) -> Path:
        return self.want.folder / "logs"

    @property
    def data(self) -> Path:
        return self.want.folder / "data"

    def port(self, name: str, documented: int) -> int:
        """Return the port of `name`, reserved for as long as the room is: the documented one or a free one.

        Raises NotReady that says who has it.
        """
        if name not in self._reserved:
            wanted = documented if self.want.ports == "documented" else 0
            self._reserved[name] = ports.reserve(wanted, owner=name)
        return self._reserved[name].port

    def reserved(self, name: str) -> bool:
        """Whether `name` has a port here: something that is not in this stack has none."""
        return name in self._reserved

    def face_port(self, service: str) -> int:
        """Return the port on which `service` shows its face."""
        return self.port(service, load_catalogue()[service].port)

    def face_url(self, service: str) -> str:
        return f"http://{HOST}:{self.face_port(service)}"

    def secret(self, name: str, value: str) -> Path:
        """Keep `value` in a file that only its owner may read; one that is there stays as it is."""
        file = self.want.folder / "secrets" / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(value, encoding="utf-8")
        return file

    @property
    def models(self) -> tuple[str, ...]:
        """The models of this stack."""
        return tuple(name for name in self.want.names if load_catalogue()[name].group == MODELS)

    def limits(self, name: str, *, by_rlimit: bool = True) -> Limits:
        """Return what service `name` may use, as the catalogue says, unless limits are not wanted."""
        if not self.want.limited:
            return UNLIMITED
        spec = load_catalogue()[name]
        return Limits(spec.cpu_cores, spec.memory_bytes, by_rlimit)

    @functools.cached_property
    def configured(self) -> Effective:
        """What the environment, the host and variables say of the services. Raises InvalidConfiguration."""
        return self._read()

    def _read(self) -> Effective:
        from reference_stack.services.infrastructure.configured import load

        files = ConfigurationSettings(environment_file=self.want.environment, host_file=self.want.host_file)
        return load(files, os.environ).effective

    def reread(self) -> list[str]:
        """Read environment, host and variables again, and write the settings files anew; return which have changed.

        Raises InvalidConfiguration, and nothing is changed, when something is wrong or is read only when a service
        starts: file, line and key are named.
        """
        found = self._read()
        fixed = [problem for name in self._ours for problem in self._fixed(name, found)]
        if fixed:
            raise InvalidConfiguration(fixed)
        self.configured = found
        return [name for name in self._ours if self._write(name)]

    def _fixed(self, name: str, found: Effective) -> Iterator[Problem]:
        hint = "put it back; or hxp-stack down, then up"
        for key in read_at_start(self.configured.services[name], found.services[name]):
            if key in self._ours[name]:
                continue
            leaves = (each for leaf, each in found.origins[name].items() if leaf.split(".")[0] == key)
            origin = next(leaves, found.origin(name, key))
            yield Problem(origin.source, f"{name}.{key}", "is read when the service starts", hint, origin.line)

    def _write(self, name: str) -> bool:
        """Write the settings file of a service, whole, for its owner alone; False when it says so already."""
        file = self.settings_file(name)
        text = json.dumps({**self.configured.said[name], **self._ours[name]}, indent=2) + "\n"
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            return False
        draft = file.with_suffix(".part")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
        return True

    def settings(self, name: str, kind: type[Kind]) -> Kind:
        """Return what service `name` is configured to be; its settings are of that `kind`."""
        found = self.configured.services[name]
        assert isinstance(found, kind)  # noqa: S101 - a mistake of ours, not of a caller
        return found

    def external(self, name: str) -> bool:
        """Whether the server behind `name` is somebody else's: it is then neither started nor stopped."""
        return not self.want.mock and self.configured.said[name].get("backend") == "external"

    def settings_file(self, name: str) -> Path:
        return self.want.folder / "settings" / f"{name}.json"

    def service(
        self,
        name: str,
        settings: Mapping[str, object],
        after: tuple[str, ...] = (),
        *,
        health: str = "/health/ready",
    ) -> Unit:
        """Return the unit that serves `name`, ready when `health` answers 200; `settings` win over the environment."""
        self._ours[name] = settings
        self._write(name)
        file = self.settings_file(name)
        argv = (sys.executable, "-m", "reference_stack", "serve", name, "--settings", str(file))
        probe = readiness.http(self.face_url(name) + health)
        port, limits, needs = self.face_port(name), self.limits(name), load_catalogue()[name].needs
        return Unit(name, Program(argv), probe, file, after, port, limits=limits, uses=needs, kept_up=True)
