"""Whether a JSON Schema still takes what an older one took. Pure; of what pydantic does not write it says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("pattern", "format", "multipleOf", "uniqueItems", "propertyNames", "patternProperties")
_KNOWN = {
    *_LOWER,
    *_UPPER,
    *_SAME,
    *("$defs", "$ref", "$schema", "$id", "title", "description", "default", "examples", "deprecated", "discriminator"),
    *("type", "enum", "const", "anyOf", "oneOf", "items", "prefixItems"),
    *("properties", "required", "additionalProperties"),
}


def broken_requests(old: Schema, new: Schema) -> list[str]:
    """Return where `new` refuses requests that `old` took; empty: who sends the old ones goes on."""
    return [f"{at}: {what}" for at, what in _narrowed(old, new, old, new, "$", forgiving=False)]


def broken_replies(old: Schema, new: Schema) -> list[str]:
    """Return where `new` says what a reader of `old` does not expect; a key more is none: readers ignore those."""
    return [f"{at}: {what}" for at, what in _narrowed(new, old, new, old, "$", forgiving=True)]


def _narrowed(
    wide: Schema, narrow: Schema, wide_root: Schema, narrow_root: Schema, at: str, *, forgiving: bool, depth: int = 0
) -> Iterator[tuple[str, str]]:
    """Yield where something that `wide` takes may not be taken by `narrow`."""
    wide, narrow = _resolved(wide, wide_root), _resolved(narrow, narrow_root)
    if depth > 30:  # a schema that refers to itself has been compared by then
        return
    for side in (wide, narrow):
        for word in sorted(set(side) - _KNOWN):
            yield at, f"{word!r} cannot be compared"

    def inner(one: Schema, other: Schema, where: str) -> list[tuple[str, str]]:
        return list(_narrowed(one, other, wide_root, narrow_root, where, forgiving=forgiving, depth=depth + 1))

    choices = wide.get("anyOf") or wide.get("oneOf")
    if choices:
        for choice in choices:
            yield from inner(choice, narrow, at)
        return
    choices = narrow.get("anyOf") or narrow.get("oneOf")
    if choices:
        if all(inner(wide, choice, at) for choice in choices):
            yield at, f"{_named(wide)} is no longer taken"
        return
    yield from _values(wide, narrow, at)
    yield from _bounds(wide, narrow, at)
    yield from _object(wide, narrow, at, inner, forgiving=forgiving)
    if "items" in narrow:
        yield from inner(wide.get("items", {}), narrow["items"], f"{at}[]")
    if narrow.get("prefixItems") and wide.get("prefixItems") != narrow["prefixItems"]:
        yield at, "the items of the tuple are others"


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _named(schema: Schema) -> str:
    return str(schema.get("type", schema.get("enum", schema.get("const", "a value of any type"))))


def _values(wide: Schema, narrow: Schema, at: str) -> Iterator[tuple[str, str]]:
    wide_values, narrow_values = _enumerated(wide), _enumerated(narrow)
    if narrow_values is not None:
        if wide_values is None:
            yield at, f"only {narrow_values} are taken"
        else:
            yield from ((at, f"{value!r} is no longer taken") for value in wide_values if value not in narrow_values)
        return
    if "type" not in narrow:
        return
    if wide_values is not None:
        yield from ((at, f"{value!r} is no longer taken") for value in wide_values if not _is_a(value, narrow["type"]))
        return
    kinds = {"integer", "number"} if narrow["type"] == "number" else {narrow["type"]}
    if wide.get("type") not in kinds:
        yield at, f"{_named(wide)} became {narrow['type']}"


def _enumerated(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _is_a(value: Any, kind: str) -> bool:
    kinds: Mapping[type, set[str]] = {
        str: {"string"},
        bool: {"boolean"},
        int: {"integer", "number"},
        float: {"number"},
        type(None): {"null"},
    }
    return kind in kinds.get(type(value), {kind})


def _bounds(wide: Schema, narrow: Schema, at: str) -> Iterator[tuple[str, str]]:
    for word in _LOWER:
        if word in narrow and wide.get(word, float("-inf")) < narrow[word]:
            yield at, f"{word} rose to {narrow[word]}"
    for word in _UPPER:
        if word in narrow and wide.get(word, float("inf")) > narrow[word]:
            yield at, f"{word} fell to {narrow[word]}"
    for word in _SAME:
        if word in narrow and wide.get(word) != narrow[word]:
            yield at, f"{word} became {narrow[word]!r}"


def _object(wide: Schema, narrow: Schema, at: str, inner: Any, *, forgiving: bool) -> Iterator[tuple[str, str]]:
    for key in narrow.get("required", ()):
        if key not in wide.get("required", ()):
            yield f"{at}.{key}", "may be missing where it must be there"
    known, others = narrow.get("properties", {}), narrow.get("additionalProperties", True)
    for key, value in wide.get("properties", {}).items():
        if key in known:
            yield from inner(value, known[key], f"{at}.{key}")
        elif others is False:
            if not forgiving:
                yield f"{at}.{key}", "is no longer taken"
        elif isinstance(others, Mapping):
            yield from inner(value, others, f"{at}.{key}")
        elif known and "additionalProperties" not in narrow and not forgiving:  # a shape, and no mapping of anything
            yield f"{at}.{key}", "is no longer known: it would be ignored"
    more = wide.get("additionalProperties", True) if wide.get("type", "object") == "object" else False
    if more is False or others is True or (others is False and forgiving):
        return
    if others is False:
        yield at, "keys of any name are no longer taken"
    else:
        yield from inner({} if more is True else more, others, f"{at}.*")
