"""Our gateway as a subject: the settings with everything on, and the same with one thing off."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway.subjects import KEY, Command, free_port
from reference_stack.schemas.api.keys import digest_of
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings

_PEPPER = b"a pepper for benchmarks alone"


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings on top of the full ones; without the setting that `needs` names it is no other than the full one."""

    name: str
    changes: Mapping[str, Any]
    needs: str = ""

    @property
    def exists(self) -> bool:
        return not self.needs or self.needs in ApiGatewaySettings.model_fields


FULL = Variant("everything on", {})


def gateway(folder: Path, backend_port: int, variant: Variant = FULL, keys: int = 1) -> Command:
    """Return our gateway with one worker and `keys` keys, its log written to a file as in production."""
    names = (KEY, *(b"sk-benchmark-%010d" % number for number in range(1, keys)))
    (folder / "pepper").write_bytes(_PEPPER)
    settings = {
        "upstreams": {"mixtral": {"base_url": f"http://127.0.0.1:{backend_port}/v1"}},
        "keys": [{"id": f"key-{i}", "hash": digest_of(name, _PEPPER).hex()} for i, name in enumerate(names)],
        "pepper_file": str(folder / "pepper"),
        **variant.changes,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    port = free_port()
    argv = (sys.executable, "-m", "reference_stack", "serve", "api_gateway", "--port", str(port))
    return Command(
        (*argv, "--settings", str(folder / "settings.json")),
        port,
        "/health/ready",
        {"PYTHONDONTWRITEBYTECODE": ""},
        names,
    )
