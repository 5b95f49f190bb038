"""Which settings are secrets, found by their type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, SecretStr


def secret_keys(kind: type[BaseModel], said: Mapping[str, object], at: str = "") -> Iterator[str]:
    """Yield the dotted keys of `said`, settings of `kind`, that hold secrets."""
    for name, value in said.items():
        info = kind.model_fields.get(name)
        if info is None:
            continue
        key = f"{at}{name}"
        parts = list(_parts(info.annotation))
        if SecretStr in parts:
            yield key
        models = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        if not models or not isinstance(value, Mapping):
            continue
        if _is_mapping(info.annotation):  # one more name before the settings: upstreams.mixtral.api_key
            for middle, each in value.items():
                if isinstance(each, Mapping):
                    yield from secret_keys(models[0], each, f"{key}.{middle}.")
        else:
            yield from secret_keys(models[0], value, f"{key}.")


def _parts(annotation: object) -> Iterator[object]:
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _parts(part)


def _is_mapping(annotation: object) -> bool:
    return getattr(annotation, "__origin__", None) is dict
