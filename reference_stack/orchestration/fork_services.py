"""What the nursery has ready for services of ours. A trade of nursery.py."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WANTED = "HXP_FORKED_SERVICES"  # the services that will be asked for, with commas between
# What takes long to import, and who needs it. Who is alone in that imports it itself, while others start.
_SHARED: Mapping[str, frozenset[str]] = {
    "reference_stack.services.ai_models.sim_server": frozenset({"mixtral", "hermes", "openchat", "phi3"}),
    "aiohttp": frozenset({"api_gateway", "monitoring"}),
    "asyncpg": frozenset({"api_gateway", "database"}),
    "httpx": frozenset({"metrics", "monitoring", "vector_database"}),
    "redis.asyncio": frozenset({"api_gateway", "cache"}),
}


def prepare() -> None:
    """Import what all services need, and what several of those that are wanted do."""
    import fastapi  # noqa: F401 - for those who are forked
    import uvloop  # noqa: F401 - likewise

    import reference_stack.face
    import reference_stack.reloading
    import reference_stack.serve  # noqa: F401 - likewise

    wanted = set(os.environ.get(WANTED, "").split(","))
    for module, services in _SHARED.items():
        if len(services & wanted) > 1:
            importlib.import_module(module)


def serve(wanted: dict[str, Any], descriptors: Sequence[int]) -> int:
    """Serve `wanted["name"]` with the settings in file `wanted["settings"]` on the listening socket."""
    from reference_stack.errors import StackError
    from reference_stack.serve import serve_file

    try:
        return serve_file(wanted["name"], Path(wanted["settings"]), fd=descriptors[0])
    except StackError as error:
        print(f"hxp-stack: {error}", file=sys.stderr)
        return error.exit_code
