"""The files of a run's folder beside its traces: what each stage wrote, and the next one reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hxp_harness.errors import UsageError
from hxp_harness.report.files import write_whole

if TYPE_CHECKING:
    from hxp_harness.profile import Profile

PROFILE = "profile.yaml"  # the contract, resolved
MANIFEST = "manifest.json"  # id, start, evidence, target, environment
CERTIFICATE_BEFORE = "certificate-before.json"
CERTIFICATE_AFTER = "certificate-after.json"
SCHEDULE = "schedule.jsonl"
CANARY = "canary.json"  # what the fixed prompts were answered idle and under load
SERVER = "server.json"  # the target's counters before and after the load
SERVER_SERIES = "server.parquet"  # and every second meanwhile
TRACES = "traces.parquet"
RECORD = "run.json"
END = "end.json"  # how the measurement ended; missing: it did not


def write_json(folder: Path, name: str, value: object) -> None:
    """Write a dataclass or mapping into `folder`, whole or not at all; raise InvalidRun when the disk is full."""
    tree = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    write_whole(folder / name, json.dumps(tree, indent=2, default=str) + "\n")


def read_json(folder: Path, name: str) -> Mapping[str, Any] | None:
    """Return what stands in `folder`; None when the stage that writes it was not reached."""
    file = folder / name
    try:
        tree: Mapping[str, Any] | None = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{file} is damaged: {error}", hint="run the profile again") from None
    return tree


def write_profile(folder: Path, profile: Profile) -> None:
    """Write the resolved profile; it can be run again as it stands."""
    tree = profile.model_dump(mode="json", by_alias=True)
    write_whole(folder / PROFILE, yaml.safe_dump(tree, sort_keys=False))


def read_yaml(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the mapping that stands in `folder`; None when there is no such file."""
    file = folder / name
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is damaged: {error}") from None
    found: dict[str, Any] = tree
    return found
