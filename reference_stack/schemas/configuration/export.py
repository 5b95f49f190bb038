"""JSON Schemas of the settings, for editors that complete and check YAML while it is written."""

from __future__ import annotations

from typing import Any

from reference_stack.schemas.configuration import SETTINGS, settings_class

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def service_schema(service: str) -> dict[str, Any]:
    """Return the schema of one service's settings."""
    schema = settings_class(service).model_json_schema()
    return {"$schema": _DIALECT, **schema, "title": service}


def environment_schema() -> dict[str, Any]:
    """Return the schema of a file with the settings of all services."""
    definitions: dict[str, Any] = {}
    services: dict[str, Any] = {}
    for name in SETTINGS:
        kind = settings_class(name)
        schema = kind.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        if "service" in kind.model_fields:  # the name of the section says it
            schema["required"] = [key for key in schema.get("required", ()) if key != "service"]
        definitions[kind.__name__] = schema
        services[name] = {"$ref": f"#/$defs/{kind.__name__}"}
    return {
        "$schema": _DIALECT,
        "title": "Settings of all services",
        "type": "object",
        "additionalProperties": False,
        "properties": services,
        "$defs": dict(sorted(definitions.items())),
    }
