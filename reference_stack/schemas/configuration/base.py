"""The base of every service's settings, and what a secret in them is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationInfo, WithJsonSchema


class Settings(BaseModel):
    """Unknown keys are errors: a misspelt limit must never be a limit that silently does not hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceSettings(Settings):
    """Settings of one service. Those in `IN_FLIGHT` may change while it runs; the others are read when it starts."""

    IN_FLIGHT: ClassVar[frozenset[str]] = frozenset()
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def in_flight(cls) -> frozenset[str]:
        """Return the names of the settings that may change while the service runs."""
        return cls.IN_FLIGHT | {"log_level"}


def read_at_start(one: ServiceSettings, other: ServiceSettings) -> list[str]:
    """Return the settings, by name, that differ and cannot change while the service runs."""
    fixed = (name for name in type(one).model_fields if name not in one.in_flight())
    return [name for name in fixed if getattr(one, name) != getattr(other, name)]


def is_reference(value: object) -> bool:
    """Whether `value` says where a secret is, and not what it is."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in {"file", "env"}


def _resolve(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, Mapping):
        return value
    if not is_reference(value):
        raise ValueError("a secret is {file: PATH} or {env: NAME}")
    kind, where = next(iter(value.items()))
    if kind == "file":
        try:
            return Path(str(where)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ValueError(f"the secret cannot be read from {where}: {reason}") from None
    environ: Mapping[str, str] = (info.context or {}).get("environ", os.environ)
    if str(where) not in environ:
        raise ValueError(f"the secret is not there: no variable {where}")
    return environ[str(where)]


_SCHEMA = {
    "oneOf": [
        {"type": "string", "description": "the secret itself: not in a file of an environment"},
        *(
            {
                "type": "object",
                "properties": {kind: {"type": "string"}},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind in ("file", "env")
        ),
    ]
}
# Given as {file: PATH} or {env: NAME}; a secret that stands there itself is for settings that a program hands over.
Secret = Annotated[SecretStr, BeforeValidator(_resolve), WithJsonSchema(_SCHEMA)]
