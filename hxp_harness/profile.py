"""A profile: the contract under which a service is judged, and the gates it must pass."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

import hxp_harness
from hxp_harness.arrivals import KINDS, Replay
from hxp_harness.contract import Contract, Sessions
from hxp_harness.errors import UsageError, nearest
from hxp_harness.lengths import LENGTH_KINDS, Empirical, Prefix, Prompts
from hxp_harness.quantity import Seconds, Strict, with_units

__all__ = ["Contract", "Profile", "Replicates", "find_profile", "known_profiles", "profile_folders", "read_profile"]


class Replicates(Strict):
    """How often the contract is tried: `count` windows of `requests` measured requests, after `warm_up_s`."""

    count: int = Field(default=8, ge=2, le=1000)
    requests: int = Field(default=2000, ge=10)
    warm_up_s: Seconds = Field(alias="warm_up", default=5.0, ge=0)

    _units = model_validator(mode="before")(with_units(warm_up="s"))


class Profile(Strict):
    """One workload contract, complete before anything starts. `gates` are sentences; `hxp_harness.gates` reads them."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    service: str  # the service of the stack that is judged
    contract: Contract
    gates: tuple[str, ...] = Field(min_length=1)
    replicates: Replicates = Replicates()
    seed: int = Field(default=1, ge=0)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_profile(file: Path) -> Profile:
    """Return the profile in `file`; raise UsageError that names the file, the key and the nearest right spelling."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the profile {file}: {error.strerror}", hint=_known()) from None
    try:
        raw = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader  # nosec B506
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{file} is not a mapping", hint="see docs/reference/profile.md")
    try:
        return _anchored(Profile.model_validate(raw), file.parent)
    except ValidationError as error:
        raise UsageError(*_explain(file, error)) from None


def _anchored(profile: Profile, folder: Path) -> Profile:
    """Return `profile` with the files that it names found from its own folder, so that it reads back from anywhere."""
    contract = profile.contract
    found = {
        name: part.model_copy(update={"file": (folder / part.file).resolve()})
        for name in ("arrival", "prompt_lengths", "output_lengths", "prompts")
        if isinstance(part := getattr(contract, name), Replay | Empirical | Prompts)
    }
    return profile.model_copy(update={"contract": contract.model_copy(update=found)}) if found else profile


def _explain(file: Path, error: ValidationError) -> tuple[str]:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; {nearest(str(item['loc'][-1]), _keys(item['loc'][:-1]))}"
        if item["type"] == "union_tag_invalid":
            told = {name: str(value).replace("'", "") for name, value in item["ctx"].items()}
            hint = nearest(told["tag"], told["expected_tags"].split(", "))
            message = f"unknown {told['discriminator']} {told['tag']!r}; {hint}"
        lines.append(f"{file}: {where}: {message}")
    return ("\n".join(lines),)


_PARTS: dict[tuple[str, ...], type[Strict]] = {
    (): Profile,
    ("contract",): Contract,
    ("contract", "sessions"): Sessions,
    ("contract", "prefix"): Prefix,
    ("contract", "prompts"): Prompts,
    ("replicates",): Replicates,
    **{("contract", "arrival", kind): model for kind, model in KINDS.items()},
    **{
        ("contract", f"{what}_lengths", kind): model
        for what in ("prompt", "output")
        for kind, model in LENGTH_KINDS.items()
    },
}


def _keys(path: tuple[int | str, ...]) -> list[str]:
    model = _PARTS[tuple(str(part) for part in path)]
    return [field.alias or name for name, field in model.model_fields.items()]


def profile_folders() -> list[Path]:
    """Return where named profiles are looked for, first found first taken."""
    package = Path(hxp_harness.__file__).parent
    return [Path("profiles"), package / "profiles", package.parent / "profiles"]


def known_profiles() -> dict[str, Path]:
    """Return every named profile with its file."""
    found: dict[str, Path] = {}
    for folder in profile_folders():
        for file in sorted(folder.glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


def find_profile(name: str) -> Profile:
    """Return the profile called `name`; raise UsageError with the nearest right spelling."""
    known = known_profiles()
    if name not in known:
        raise UsageError(f"no profile {name!r}", hint=nearest(name, known))
    return read_profile(known[name])


def _known() -> str:
    return f"profiles here: {', '.join(known_profiles())}"
