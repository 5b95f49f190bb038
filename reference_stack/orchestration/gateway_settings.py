"""The settings of the gateway that a command works on: its stack's, or a file that was named."""

from __future__ import annotations

from pathlib import Path

from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.serve import read_settings


def gateway_settings(named: Path | None, folder: Path) -> tuple[Path, ApiGatewaySettings]:
    """Return the file that holds them, `named` or that of the stack in `folder`, and what it says.

    Raises SettingsError where there is none, or it is wrong.
    """
    file = named or folder / "settings" / "api_gateway.json"
    if named is None and not file.exists():
        hint = "hxp-stack up starts one; or name the gateway's own settings: --settings FILE"
        raise SettingsError(f"no stack keeps its files in {folder}", hint=hint)
    settings: ApiGatewaySettings = read_settings("api_gateway", file)
    return file, settings
