"""Real weights are looked at before an engine is started: they are the model's, whole, and cannot run code."""

from __future__ import annotations

from pathlib import Path

from reference_stack.errors import SettingsError
from reference_stack.services.ai_models.checkpoint import mismatches
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.infrastructure.artefacts import format_flaws

_SHOWN = 5


def check(spec: ModelSpec) -> None:
    """Raise SettingsError with what is wrong with the checkpoint of `spec`; reads headers and small files alone."""
    folder: Path = spec.path
    if not folder.is_dir():
        raise SettingsError(
            f"{spec.name}: there are no weights in {folder}", hint="use --weights dummy for its speed, or tiny"
        )
    found = [*(f"{flaw.file} {flaw.problem}" for flaw in format_flaws(folder)), *mismatches(folder, spec)]
    if found:
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise SettingsError(
            f"{spec.name}: what is in {folder} cannot be served:\n  " + "\n  ".join([*found[:_SHOWN], *more]),
            hint=f"put the right checkpoint there, in safetensors; or change {spec.name}.yaml; or --weights dummy",
        )
