"""What a model is asked for: the contract of a profile, as far as the stack needs it to predict itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from reference_stack.errors import SettingsError, nearest
from reference_stack.schemas.configuration.base import Settings

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_QUANTITY = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[a-z]+)\s*")
_E2E_GATE = re.compile(r"\s*(abort\s+)?e2e\s+p(?P<percent>\d+(\.\d+)?)\s*(<=|<)\s*(?P<limit>.+)")


def _quantity(units: dict[str, float]) -> BeforeValidator:
    def read(value: object) -> object:
        match = _QUANTITY.fullmatch(str(value))
        if match is None or match["unit"] not in units:
            raise ValueError(f"{value!r} is no number with one of the units {', '.join(units)}")
        return float(match["number"]) * units[match["unit"]]

    return BeforeValidator(read)


def _shaped(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


Seconds = Annotated[float, _quantity(_SECONDS)]
Rps = Annotated[float, _quantity({"rps": 1.0})]


class Contract(Settings):
    """Lengths in tokens, rate in requests/s, and the limit in seconds on a quantile of end-to-end latency, if any."""

    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    rate_rps: float = Field(gt=0)
    limit_s: float | None = Field(default=None, gt=0)
    quantile: float = Field(default=0.95, gt=0, lt=1)
    arrival: Literal["poisson", "constant"] = "poisson"


class Shaped(Settings):
    """Arrivals with parameters. No prediction uses those, so they are let be: the harness is strict about them."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["constant", "poisson", "gamma", "ramp", "step", "replay", "closed"]


class ProfileSessions(Settings):
    """Conversations of so many turns, each after the answer and a mean think time in seconds."""

    turns: int = Field(ge=2, le=1000)
    think: Seconds = Field(ge=0)


class ProfileContract(Settings):
    """The section `contract` of a profile file."""

    api: Literal["chat", "completions"] = "chat"
    stream: bool = True
    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    arrival: Annotated[Shaped, BeforeValidator(_shaped)] = Shaped(kind="poisson")
    rate: Rps = Field(gt=0)
    sessions: ProfileSessions | None = None
    prompt_lengths: Mapping[str, object] | None = None  # these four: as with Shaped
    output_lengths: Mapping[str, object] | None = None
    prefix: Mapping[str, object] | None = None
    prompts: Mapping[str, object] | None = None
    cache: Literal["cold", "any"] = "cold"
    isolation: Literal["alone"] = "alone"
    timeout: Seconds = Field(default=30.0, gt=0)
    temperature: float = Field(default=0.0, ge=0)


class ProfileReplicates(Settings):
    """The section `replicates` of a profile file."""

    count: int = Field(default=8, ge=1)
    requests: int = Field(default=2000, ge=1)
    warm_up: Seconds = Field(default=5.0, ge=0)


_UNPREDICTED = ("sessions", "prompt_lengths", "output_lengths", "prefix", "prompts")


class Workload(Settings):
    """A profile file. Of its gates only those on a percentile of e2e are understood here."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    title: str
    service: str
    asked: ProfileContract = Field(alias="contract")
    gates: tuple[str, ...] = ()
    replicates: ProfileReplicates = ProfileReplicates()
    seed: int = Field(default=1, ge=0)

    @property
    def contract(self) -> Contract:
        """What is asked, with the first limit on a percentile of e2e among the gates.

        Raises SettingsError for arrivals that are not predicted.
        """
        arrival = self.asked.arrival.kind
        more = [name for name in _UNPREDICTED if getattr(self.asked, name) is not None]
        if more or (arrival != "constant" and arrival != "poisson"):  # noqa: PLR1714 - mypy narrows by this
            what = more[0] if more else f"the arrival {arrival}"
            raise SettingsError(
                f"{self.name}: {what} cannot be predicted", hint="it can be measured: hxp perf --profile FILE"
            )
        limit_s, quantile = _e2e_limit(self.gates)
        return Contract(
            prompt_tokens=self.asked.prompt_tokens,
            output_tokens=self.asked.output_tokens,
            rate_rps=self.asked.rate,
            arrival=arrival,
            limit_s=limit_s,
            quantile=quantile,
        )


def _e2e_limit(gates: Iterable[str]) -> tuple[float | None, float]:
    for gate in gates:
        match = _E2E_GATE.fullmatch(gate)
        limit = _QUANTITY.fullmatch(match["limit"]) if match else None
        if match and limit and limit["unit"] in _SECONDS:
            return float(limit["number"]) * _SECONDS[limit["unit"]], float(match["percent"]) / 100
    return None, 0.95


def parse_contract(text: str) -> Contract:
    """Return the contract that stands in JSON; raise SettingsError that names the key."""
    try:
        return Contract.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError("\n".join(_told("--contract", error, list(Contract.model_fields)))) from None


def read_workload(file: Path) -> Workload:
    """Return the profile in `file`; raise SettingsError that names the key and the nearest right spelling."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the profile {file}: {error.strerror}", hint=_known()) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not YAML: {error}") from None
    try:
        return Workload.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("\n".join(_told(str(file), error, None))) from None


def _told(file: str, error: ValidationError, keys: list[str] | None) -> list[str]:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; {nearest(str(item['loc'][-1]), keys or _keys(str(item['loc'][0])))}"
        lines.append(f"{file}: {where}: {message}" if where else f"{file}: {message}")
    return lines


def _keys(section: str) -> list[str]:
    parts: dict[str, type[Settings]] = {"contract": ProfileContract, "replicates": ProfileReplicates}
    return [field.alias or name for name, field in parts.get(section, Workload).model_fields.items()]


def known_workloads() -> dict[str, Path]:
    """Return the profile files by name: those of ./profiles first, then those installed beside this package."""
    beside = Path(__file__).parents[3]
    found: dict[str, Path] = {}
    for folder in (Path("profiles"), beside / "profiles", beside / "hxp_harness" / "profiles"):
        for file in sorted(folder.glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


def find_workload(name: str) -> Workload:
    """Return the profile called `name`; raise SettingsError with the nearest right spelling."""
    known = known_workloads()
    if name not in known:
        raise SettingsError(f"no profile {name!r}", hint=nearest(name, known))
    return read_workload(known[name])


def _known() -> str:
    return f"profiles here: {', '.join(known_workloads())}"
