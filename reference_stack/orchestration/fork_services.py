"""What the nursery has ready for services of ours. A trade of nursery.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def prepare() -> None:
    """Import what all services need."""
    import fastapi  # noqa: F401 - for those who are forked
    import uvloop  # noqa: F401 - likewise

    import reference_stack.face
    import reference_stack.serve  # noqa: F401 - likewise


def serve(wanted: dict[str, Any], descriptors: Sequence[int]) -> int:
    """Serve `wanted["name"]` with the settings in file `wanted["settings"]` on the listening socket."""
    from reference_stack.errors import StackError
    from reference_stack.serve import serve_file

    try:
        return serve_file(wanted["name"], Path(wanted["settings"]), fd=descriptors[0])
    except StackError as error:
        print(f"hxp-stack: {error}", file=sys.stderr)
        return error.exit_code
