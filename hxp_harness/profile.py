"""A profile: the contract under which a service is judged, and the gates it must pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

import hxp_harness
from hxp_harness.errors import UsageError, nearest
from hxp_harness.units import parse_quantity


def _read(dimension: str) -> BeforeValidator:
    def read(value: object) -> float:
        if isinstance(value, float | int) and not isinstance(value, bool):
            return float(value)  # by the field's own name, which has the unit
        try:
            return parse_quantity(str(value), dimension).value
        except UsageError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read)


def _write(unit: str) -> PlainSerializer:
    return PlainSerializer(lambda value: f"{value!r} {unit}", return_type=str, when_used="json")


def _with_units(*keys: str) -> Callable[[object], object]:
    """Refuse a bare number under `keys`, which name no unit: 500 could be ms as well as s."""

    def check(raw: object) -> object:
        for key in keys:
            value = raw.get(key) if isinstance(raw, dict) else None
            if isinstance(value, float | int) and not isinstance(value, bool):
                example = f"{key}: {value} {_EXAMPLE_UNITS[key]}"
                raise ValueError(f"{key}: {value} has no unit; for example {example}")  # noqa: TRY004 - pydantic's way
        return raw

    return check


_EXAMPLE_UNITS = {"rate": "rps", "timeout": "s", "warm_up": "s"}
Seconds = Annotated[float, _read("time"), _write("s")]
Rps = Annotated[float, _read("rate"), _write("rps")]


class _Strict(BaseModel):
    """Unknown keys are errors: a misspelt gate must never be a gate that silently passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Contract(_Strict):
    """What is asked of the target: lengths in tokens, rate in requests/s, timeout in seconds."""

    api: Literal["chat", "completions"] = "chat"
    stream: bool = True
    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    arrival: Literal["poisson", "constant"] = "poisson"
    rate_rps: Rps = Field(alias="rate", gt=0)
    cache: Literal["cold"] = "cold"  # fresh prompts: no request finds its prefix cached
    isolation: Literal["alone"] = "alone"
    timeout_s: Seconds = Field(alias="timeout", default=30.0, gt=0)
    temperature: float = Field(default=0.0, ge=0)

    _units = model_validator(mode="before")(_with_units("rate", "timeout"))
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Replicates(_Strict):
    """How often the contract is tried: `count` windows of `requests` measured requests, after `warm_up_s`."""

    count: int = Field(default=8, ge=2, le=1000)
    requests: int = Field(default=2000, ge=10)
    warm_up_s: Seconds = Field(alias="warm_up", default=5.0, ge=0)

    _units = model_validator(mode="before")(_with_units("warm_up"))

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Profile(_Strict):
    """One workload contract, complete before anything starts. `gates` are sentences; `hxp_harness.gates` reads them."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    service: str  # the service of the stack that is judged
    contract: Contract
    gates: tuple[str, ...] = Field(min_length=1)
    replicates: Replicates = Replicates()
    seed: int = Field(default=1, ge=0)

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


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
        return Profile.model_validate(raw)
    except ValidationError as error:
        raise UsageError(*_explain(file, error)) from None


def _explain(file: Path, error: ValidationError) -> tuple[str]:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; {nearest(str(item['loc'][-1]), _keys(item['loc'][:-1]))}"
        lines.append(f"{file}: {where}: {message}")
    return ("\n".join(lines),)


def _keys(path: tuple[int | str, ...]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {"contract": Contract, "replicates": Replicates}
    model = parts.get(str(path[0]), Profile) if path else Profile
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
