"""What is wrong with a configuration, said so that a person can mend it: file, line, key, nearest right spelling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from reference_stack.errors import SettingsError, nearest


@dataclass(frozen=True, slots=True)
class Origin:
    """Who said something: a file, a variable or an option; and on which line (from 1), where there are lines."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: who says it, of which "service.key", and the nearest right spelling or ""."""

    source: str
    key: str
    problem: str
    hint: str = ""
    line: int | None = None

    def __str__(self) -> str:
        told = [str(Origin(self.source, self.line)), self.key, self.problem]
        return ": ".join(part for part in told if part) + (f" ({self.hint})" if self.hint else "")


class InvalidConfiguration(SettingsError):
    """The layers together make no valid configuration; `problems` names every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        told = [str(Origin(first.source, first.line)), first.key, first.problem]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(": ".join(part for part in told if part) + more, hint=first.hint)
        self.problems = tuple(problems)


def explain(kind: type[BaseModel], error: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the dotted key, the problem and the hint of one of pydantic's errors about settings of `kind`."""
    path = [str(part) for part in error["loc"]]
    if error["type"] != "extra_forbidden":
        return ".".join(path), str(error["msg"]).removeprefix("Value error, "), ""
    return ".".join(path), "no such setting", nearest(path[-1], _known(kind, path[:-1]))


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
