"""What the rest of the stack asks of a configuration: what every service is set to, who said so, and a reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from reference_stack.errors import StackError
from reference_stack.schemas.configuration.problem import Problem


class Unavailable(StackError):
    """There is no good configuration yet: whoever has it cannot be asked."""

    exit_code = 5


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as people may see it: its value (a secret as stars and where it is from) and who set it."""

    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A good configuration: a digest that names it, when it was read (seconds since 1970), each service's settings."""

    version: str
    loaded_at_s: float
    services: Mapping[str, Mapping[str, Setting]]


class Configuration(Protocol):
    """The last good configuration, and what was wrong with the last attempt to read another."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return why the last reload was refused; () where it was not."""
        ...

    async def settled(self) -> Settled:
        """Return the last good one. Raises Unavailable where there never was one."""
        ...

    async def reload(self) -> bool:
        """Read everything again; return whether it was good. What was good before stays until then."""
        ...

    async def refresh(self) -> bool | None:
        """Look whether there is something new, and read it; return whether it was good, None where nothing changed."""
        ...

    async def close(self) -> None: ...
