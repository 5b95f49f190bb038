"""The twelve services as rows: what each is called, where it listens, what it needs and must reach."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

Group = Literal["ai_models", "infrastructure", "integration"]
STACK_YAML = Path(__file__).with_name("stack.yaml")


@dataclass(frozen=True, slots=True)
class Targets:
    """What a service must reach: latency in ms (the percentile is the profile's) at a rate in requests/s."""

    latency_ms: float
    rate_rps: float


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One of the twelve services. `port` is where its HTTP face listens unless told otherwise."""

    name: str
    group: Group
    title: str
    port: int
    needs: tuple[str, ...] = ()
    cpu_cores: int | None = None
    memory_bytes: int | None = None
    targets: Targets | None = None


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    group: Group
    title: str
    port: int = Field(gt=0, lt=32768)
    needs: tuple[str, ...] = ()
    cpu_cores: int | None = Field(default=None, gt=0)
    memory_gb: float | None = Field(default=None, gt=0)
    targets: Targets | None = None


@functools.cache
def load_catalogue() -> Mapping[str, ServiceSpec]:
    """Return the twelve services by name, in the order of the file."""
    rows = yaml.safe_load(STACK_YAML.read_text(encoding="utf-8"))["services"]
    specs = {}
    for name, raw in rows.items():
        row = _Row.model_validate(raw)
        memory = None if row.memory_gb is None else int(row.memory_gb * 1e9)
        specs[name] = ServiceSpec(name, row.group, row.title, row.port, row.needs, row.cpu_cores, memory, row.targets)
    return MappingProxyType(specs)


def closure(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return `names` and everything they need, in starting order (needs before needers)."""
    catalogue = load_catalogue()
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for need in catalogue[name].needs:
            visit(need)
        order.append(name)

    for name in names:
        visit(name)
    return tuple(order)
