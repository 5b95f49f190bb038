"""A value that a JSON Schema accepts. Pure; a keyword that is not understood is refused by name, never passed over."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from reference_stack.services.ai_models.api_error import ApiError, unsupported
from reference_stack.services.ai_models.pattern import matching
from reference_stack.services.ai_models.reply import TEXT

_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}
_OF_TYPE["number"] = _OF_TYPE["integer"]
_CHOOSES = {"const", "enum", "anyOf", "oneOf", "allOf", "$ref"}
_TELLS = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "strict"}
_TELLS |= {"$schema", "$id", "$comment", "$defs", "definitions", "discriminator"}
_UNDERSTOOD = _CHOOSES | _TELLS | {"type"} | set().union(*_OF_TYPE.values())

_FORMATS = {
    "date": "2024-02-29",
    "time": "12:30:00Z",
    "date-time": "2024-02-29T12:30:00Z",
    "email": "someone@example.org",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "uri": "https://example.org/",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_WORDS = sorted({word.strip(".,").lower() for word in TEXT.split() if word.strip(".,").isalpha()})
_SHALLOW = 4  # levels down to which properties are given that are not required
_DEEPEST = 40


def instance(schema: object, draw: random.Random) -> Any:
    """Return a value that `schema` accepts; raise ApiError where it is no schema or uses what is not understood."""
    try:
        return _Maker(schema, draw).make(schema, 0)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # A keyword with a value of the wrong type, found where it is used.
        raise ApiError(f"Grammar error: Invalid schema: {error}") from None


class _Maker:
    def __init__(self, root: object, draw: random.Random) -> None:
        self._root = root
        self._draw = draw

    def make(self, schema: object, depth: int) -> Any:
        if schema is True or schema == {}:
            return self._word()
        if not isinstance(schema, Mapping):
            raise ApiError(f"Grammar error: Invalid schema: {str(schema)[:100]}")
        if depth > _DEEPEST:
            raise unsupported(f"a JSON schema that needs more than {_DEEPEST} levels")
        unknown = sorted(set(schema) - _UNDERSTOOD)
        if unknown:
            raise unsupported(f"{unknown[0]!r} in a JSON schema")
        chooser = sorted(_CHOOSES & set(schema))
        if chooser:
            return self._chosen(schema, chooser, depth)
        kind = self._type(schema)
        odd = sorted(key for keys in _OF_TYPE.values() for key in keys & set(schema) if key not in _keys_of(kind))
        if odd and "type" not in schema:
            raise unsupported(f"{odd[0]!r} in a JSON schema without a type")
        return getattr(self, f"_{kind}")(schema, depth)

    def _chosen(self, schema: Mapping[str, Any], chooser: list[str], depth: int) -> Any:
        beside = sorted(set(schema) - _TELLS - {chooser[0]} - ({"type"} if chooser[0] in ("const", "enum") else set()))
        if beside:
            raise unsupported(f"{chooser[0]!r} beside {beside[0]!r} in a JSON schema")
        key, value = chooser[0], schema[chooser[0]]
        if key == "const":
            return value
        if key == "$ref":
            return self.make(self._referred(value), depth + 1)
        if not isinstance(value, list) or not value:
            raise ApiError(f"Grammar error: {key} should be a non-empty array")
        if key == "enum":
            return self._draw.choice(value)
        if key == "oneOf" and len({str(one.get("type")) for one in value if isinstance(one, Mapping)}) < len(value):
            raise unsupported("'oneOf' of alternatives without distinct types in a JSON schema")
        if key == "allOf" and len(value) > 1:
            raise unsupported("'allOf' of several schemas")
        # The last alternative of a recursive schema is most often the end: `anyOf: [node, null]`.
        return self.make(value[-1] if depth >= _SHALLOW else self._draw.choice(value), depth + 1)

    def _referred(self, reference: object) -> object:
        target: Any = self._root
        parts = str(reference).split("/")
        if parts[0] != "#":
            raise unsupported(f"the reference {str(reference)[:100]!r} in a JSON schema")
        for part in parts[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or name not in target:
                raise ApiError(f"Grammar error: Unresolved reference: {str(reference)[:100]}")
            target = target[name]
        return target

    def _type(self, schema: Mapping[str, Any]) -> str:
        kinds = schema.get("type", next((kind for kind, keys in _OF_TYPE.items() if keys & set(schema)), "string"))
        kinds = kinds if isinstance(kinds, list) and kinds else [kinds]
        for kind in kinds:
            if kind not in _TYPES:
                raise ApiError(f"Grammar error: Invalid type: {kind}")
        return str(self._draw.choice(kinds))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise ApiError("Grammar error: properties should be an object and required an array")
        wanted = properties if depth < _SHALLOW else [name for name in properties if name in required]
        value = {name: self.make(properties[name], depth + 1) for name in wanted}
        rest = schema.get("additionalProperties", True)
        for name in required:
            if name not in value:
                if rest is False:
                    raise ApiError(f"Grammar error: Unsatisfiable schema: {name!r} is required and not allowed")
                value[name] = self.make(rest, depth + 1)
        return value

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first, rest = schema.get("prefixItems", []), schema.get("items", True)
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if rest is False:
            most = min(most, len(first))
        _check_range(least, most)
        count = int(min(max(least, len(first) or (1 if depth < _SHALLOW else 0)), most))
        if count > 1000:
            raise unsupported("an array of more than 1000 items in a JSON schema")
        return [self.make(first[i] if i < len(first) else rest, depth + 1) for i in range(count)]

    def _string(self, schema: Mapping[str, Any], _depth: int) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        _check_range(least, most)
        if "pattern" in schema:
            text = matching(schema["pattern"], self._draw, whole=False)
        elif "format" in schema:
            if schema["format"] not in _FORMATS:
                raise unsupported(f"the format {str(schema['format'])[:50]!r} in a JSON schema")
            text = _FORMATS[schema["format"]]
        else:
            if least > 10_000:
                raise unsupported("a string of more than 10000 characters in a JSON schema")
            text = self._word()
            while len(text) < least:
                text += f" {self._word()}"
            return text[: int(min(most, max(least, 30)))]
        if not least <= len(text) <= most:
            raise unsupported("a pattern or format together with these lengths in a JSON schema")
        return text

    def _integer(self, schema: Mapping[str, Any], _depth: int) -> int:
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        if "exclusiveMinimum" in schema:
            low = max(low, math.floor(schema["exclusiveMinimum"]) + 1)
        if "exclusiveMaximum" in schema:
            high = min(high, math.ceil(schema["exclusiveMaximum"]) - 1)
        unit = schema.get("multipleOf", 1)
        if unit <= 0 or unit != int(unit):
            raise unsupported("this 'multipleOf' in a JSON schema")
        least, most = _span(low, high, int(unit))
        return self._draw.randint(least, most) * int(unit)

    def _number(self, schema: Mapping[str, Any], depth: int) -> float:
        if "multipleOf" in schema:
            return self._integer(schema, depth)
        low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
        high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
        if low == -math.inf:
            low = high - 100 if high < math.inf else 0
        high = low + 100 if high == math.inf else high
        if low == high and "exclusiveMinimum" not in schema and "exclusiveMaximum" not in schema:
            return float(low)
        _check_range(low, math.nextafter(high, -math.inf))
        middle = round(low + (high - low) * self._draw.uniform(0.25, 0.75), 2)
        return middle if low < middle < high else float(low + high) / 2

    def _boolean(self, _schema: Mapping[str, Any], _depth: int) -> bool:
        return self._draw.random() < 0.5

    def _null(self, _schema: Mapping[str, Any], _depth: int) -> None:
        return None

    def _word(self) -> str:
        return self._draw.choice(_WORDS)


def _keys_of(kind: str) -> set[str]:
    return _OF_TYPE.get(kind, set())


def _check_range(low: float, high: float) -> None:
    if low > high:
        raise ApiError(f"Grammar error: Unsatisfiable schema: minimum ({low}) is greater than maximum ({high})")


def _span(low: float, high: float, unit: int) -> tuple[int, int]:
    """Return the least and the greatest multiple of `unit`, in units, of a span of at most 100 of them."""
    if low == -math.inf:
        low = min(0, high - 100 * unit) if high < math.inf else 0
    least = math.ceil(low / unit)
    most = min(math.floor(high / unit), least + 100) if high < math.inf else least + 100
    _check_range(least, most)
    return least, most
