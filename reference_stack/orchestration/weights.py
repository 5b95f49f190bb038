"""Whether a folder holds the weights of a model of ours that can be served: asked before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

from reference_stack.errors import SettingsError
from reference_stack.services.ai_models.feasibility import loads, widest_precision
from reference_stack.services.ai_models.model_spec import ModelSpec, load_spec, model_names
from reference_stack.services.ai_models.physics import Device
from reference_stack.services.ai_models.published import differences
from reference_stack.services.infrastructure.artefacts import format_flaws


def spec_of(name: str) -> ModelSpec | None:
    """Return the model that `name` is: a service, or the folder in which the service looks for its weights."""
    for model in model_names():
        spec = load_spec(model)
        if name in (spec.name, spec.path.name):
            return spec
    return None


def architecture_problems(spec: ModelSpec, folder: Path) -> list[str]:
    """Return how the config.json in `folder` differs from the model that it should be."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ["there is no config.json that can be read"]
    return differences(spec.architecture, config) if isinstance(config, dict) else ["config.json is no object"]


def check_weights(spec: ModelSpec, folder: Path, device: Device) -> None:
    """Raise SettingsError when `folder` cannot be served as `spec` on `device`. Reads headers, not the weights."""
    problems = [f"{flaw.file} {flaw.problem}" for flaw in format_flaws(folder)] + architecture_problems(spec, folder)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        hint = f"hxp-stack storage verify {folder.name} --models {folder.parent}"
        raise SettingsError(f"{spec.name}: {folder}: {problems[0]}{more}", hint=hint)
    if not loads(spec, device):
        widest = widest_precision(spec, device)
        hint = f"the widest precision that starts: {widest}" if widest else "no precision of it starts there"
        limit = min(spec.memory_limit_bytes, device.memory_bytes) / 1e9
        raise SettingsError(
            f"{spec.name}: its weights in {spec.precision} ({spec.weight_bytes / 1e9:.1f} GB) and one request of"
            f" {spec.max_model_len} tokens do not fit the {limit:.0f} GB that it has on {device.title}",
            hint=hint,
        )
