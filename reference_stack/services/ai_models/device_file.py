"""A device in a file of its own: one of our rows, with constants that a calibration put in place of its estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reference_stack.errors import SettingsError, nearest
from reference_stack.services.ai_models.physics import DEVICES, Device, find_device


class DeviceFile(BaseModel):
    """`device` is the row, `constants` what differs from it; the rest says where they come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    constants: dict[str, Annotated[float, Field(ge=0)]]
    engine: str = ""
    fitted_to: tuple[str, ...] = ()


def write_device(file: Path, row: str, device: Device, fitted: Sequence[str], **told: object) -> None:
    """Write the `fitted` constants of `device`, the calibrated row called `row`; raise SettingsError if it cannot."""
    tree = {"device": row, "constants": {name: float(f"{getattr(device, name):.4g}") for name in fitted}, **told}
    try:
        file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write {file}: {error.strerror}") from None


def read_device(file: Path) -> Device:
    """Return the device that `file` describes; raise SettingsError that names the file and what is wrong."""
    try:
        found = DeviceFile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"cannot read the device file {file}: {error.strerror}") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise SettingsError(f"{file} describes no device: {error}") from None
    if found.device not in DEVICES:
        raise SettingsError(f"{file}: no device {found.device!r}", hint=nearest(found.device, DEVICES))
    row = DEVICES[found.device]
    known = [name for name in Device.__dataclass_fields__ if isinstance(getattr(row, name), float)]
    for name in found.constants:
        if name not in known:
            raise SettingsError(f"{file}: a device has no constant {name!r}", hint=nearest(name, known))
    changed: dict[str, Any] = {**found.constants, "calibrated": found.engine or str(file)}
    return replace(row, **changed)


def device_of(text: str) -> Device:
    """Return the device that `text` names, or describes as a file (.yaml); raise SettingsError where it is neither."""
    return read_device(Path(text)) if text.endswith((".yaml", ".yml")) else find_device(text)
