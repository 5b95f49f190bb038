"""The JSON Schema of a profile, for editors that complete and check YAML while it is written.

`python -m hxp_harness.profile_schema > profiles/schema.json` writes it anew.
"""

from __future__ import annotations

import json
import re
from typing import Any

from hxp_harness.arrivals import KINDS
from hxp_harness.gates.gate import STATISTICS
from hxp_harness.gates.outcome import Effect
from hxp_harness.gates.scope import COLUMNS
from hxp_harness.metrics.definitions import METRICS, Kind
from hxp_harness.profile import Profile
from hxp_harness.units import UNITS

_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"


def profile_schema() -> dict[str, Any]:
    """Return the schema. It lets through a few sentences and files that reading them refuses, never the other way."""
    schema = Profile.model_json_schema(by_alias=True)
    properties = schema["properties"]
    properties["gates"]["items"] |= {"pattern": gate_pattern(), "examples": ["e2e p95 <= 2000 ms"]}
    arrival = schema["$defs"]["Contract"]["properties"]["arrival"]
    plain = [kind for kind, model in KINDS.items() if not any(f.is_required() for f in model.model_fields.values())]
    arrival["anyOf"] = [{"enum": plain}, {key: arrival.pop(key) for key in ("oneOf", "discriminator")}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Profile"}


def gate_pattern() -> str:
    """Return a regular expression that every right gate matches."""
    server = [metric for metric in METRICS.values() if metric.about == "server"]
    samples = _any(metric.name for metric in server if metric.kind is Kind.SAMPLE)
    others = _any(metric.name for metric in server if metric.kind is not Kind.SAMPLE)
    effects = _any(effect.value for effect in Effect if effect is not Effect.DECIDE)
    statistics, subjects = _any([*STATISTICS, "mean"]), _any(COLUMNS)
    limit = rf"\s*(<=?|>=?)\s*{_NUMBER}\s*{_any(UNITS)}"
    return (
        rf"^\s*({effects}\s+)?({samples}\s+{statistics}|{others}(\s*\([^)]*\))?){limit}"
        rf"(\s+where\s+{subjects}\s*[<>=].*)?\s*$"
    )


def _any(words: Any) -> str:
    return "(" + "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) + ")"


if __name__ == "__main__":
    print(json.dumps(profile_schema(), indent=1))
