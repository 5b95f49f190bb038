"""Our gateway as a subject: the settings with everything on, and the same with one thing otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gateway.backing import Backing
from benchmarks.gateway.subjects import Command, free_port
from reference_stack.schemas.api.keys import UNLIMITED, ApiKey, KeptAnswers, KeyLimits, digest_of
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings

OURS = "our gateway"
PEPPER = b"a pepper for benchmarks alone"
# Counted on every request, and never reached.
_WIDE = KeyLimits(requests_per_minute=10**9, tokens_per_minute=10**12, concurrent=10**6, budget_tokens=10**15)


@dataclass(frozen=True, slots=True)
class Variant:
    """Everything on, but for what is said here.

    `needs` names settings without which it would be no other than everything on; `without` names those it leaves out,
    `changes` is laid over the rest. With `keys_in_settings` its key is there, else in the database. `traced` is the
    share of requests that are traced, to an endpoint that takes all and keeps nothing.
    """

    name: str = OURS
    needs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    limits: KeyLimits = _WIDE
    answers: KeptAnswers = "off"
    keys_in_settings: bool = False
    keys: int = 1
    traced: float = 0.0

    def missing(self) -> str:
        """Return the first setting that it needs and this gateway does not have; "" when it can be measured."""
        return next((name for name in self.needs if name not in ApiGatewaySettings.model_fields), "")


def secrets(first: int, count: int) -> tuple[bytes, ...]:
    """Return keys to show, numbered from `first`, all of one length."""
    return tuple(b"sk-benchmark-%010d" % number for number in range(first, first + count))


def stored_keys(variant: Variant, first: int) -> list[ApiKey]:
    """Return the keys of `variant` as the database keeps them."""
    shown = secrets(first, variant.keys)
    every = frozenset({"*"})
    return [
        ApiKey(key.decode(), digest_of(key, PEPPER), every, "benchmark", variant.limits, variant.answers)
        for key in shown
    ]


def gateway(variant: Variant, first: int, folder: Path, backend_port: int, backing: Backing) -> Command:
    """Return our gateway, its keys numbered from `first`, its log written to a file as in production."""
    (folder / "pepper").write_bytes(PEPPER)
    shown = secrets(first, variant.keys)
    everything: dict[str, Any] = {
        "upstreams": {"mixtral": {"base_url": f"http://127.0.0.1:{backend_port}/v1"}},
        "pepper_file": str(folder / "pepper"),
        "database_dsn": backing.database.dsn,
        "cache_url": backing.cache_url,
        "limits": {"in_flight": 16_384},
        "journal": {"directory": str(folder / "journal")},
    }
    if variant.keys_in_settings:
        everything["keys"] = [{"id": key.decode(), "hash": digest_of(key, PEPPER).hex()} for key in shown]
    if variant.traced:
        everything["traces"] = {"endpoint": f"http://127.0.0.1:{backend_port}/v1/traces", "sample": variant.traced}
    known = {name: value for name, value in everything.items() if name in ApiGatewaySettings.model_fields}
    settings = {name: value for name, value in known.items() if name not in variant.without}
    (folder / "settings.json").write_text(json.dumps(_laid_over(settings, variant.changes)))
    port = free_port()
    argv = [sys.executable, "-m", "reference_stack", "serve", "api_gateway", "--port", str(port)]
    argv += ["--settings", str(folder / "settings.json")]
    return Command(tuple(argv), port, "/health/ready", {"PYTHONDONTWRITEBYTECODE": ""}, shown)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    mixed = dict(below)
    for name, value in above.items():
        under = mixed.get(name)
        mixed[name] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return mixed


FULL = Variant()
REFERENCE = Variant(f"{OURS}, FastAPI path", ("hot_path",), changes={"hot_path": False})
FEATURES = (
    Variant("everything on"),
    Variant("no journal", ("journal",), without=("journal",)),
    Variant("journal waits for the disk", ("journal",), changes={"journal": {"wait_synced": True}}),
    Variant("keys without limits", limits=UNLIMITED),
    Variant("keys in the settings", keys_in_settings=True),
    Variant("no database, no journal", without=("database_dsn", "journal"), keys_in_settings=True),
    Variant("no cache server", without=("cache_url",)),
    Variant("no salt of the prefix cache", changes={"upstreams": {"mixtral": {"cache_salt": False}}}),
    Variant("every request traced", ("traces",), traced=1.0),
    Variant("one request in 100 traced", ("traces",), traced=0.01),
    Variant("answers kept, every request is a hit", ("answers",), answers="sampled"),
)
WORKERS = tuple(Variant(f"{count} workers", ("workers",), changes={"workers": count}) for count in (1, 2, 4))
KEYS = tuple(Variant(f"{count:,} keys", keys=count) for count in (10, 1000, 100_000))
