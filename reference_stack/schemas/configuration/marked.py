"""Reads YAML and remembers on which line each key stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Marked:
    """What a text says, and the line (from 1) of each key, by its dotted path."""

    tree: object
    lines: Mapping[str, int] = field(default_factory=dict)


class NotYaml(ValueError):
    """The text cannot be read; `line` (from 1) is where, or None."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


def read_marked(text: str) -> Marked:
    """Return what `text` says. Raises NotYaml; a key that stands twice in a mapping is an error."""
    try:
        loader = _Strict(text)
        node = loader.get_single_node()
        if node is None:
            return Marked(None)
        return Marked(loader.construct_document(node), dict(_lines(node)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYaml(error.problem or "is not YAML", None if mark is None else mark.line + 1) from None
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # a character, a date, or a depth, that it cannot take
        raise NotYaml(str(error).splitlines()[0] if str(error) else "is not YAML", None) from None


class _Strict(yaml.SafeLoader):
    """The reader of a file in which a key stands twice would see only one of the two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _lines(node: yaml.Node, at: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = f"{at}.{key.value}" if at else str(key.value)
            yield path, key.start_mark.line + 1
            yield from _lines(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            path = f"{at}.{number}"
            yield path, value.start_mark.line + 1
            yield from _lines(value, path)
