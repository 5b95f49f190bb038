"""The command `hxp-stack metrics`: what Prometheus and Grafana are given, for those that we do not start."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reference_stack.catalogue import load_catalogue
from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.schemas.configuration.base import Settings
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.environments import find_environment
from reference_stack.schemas.configuration.metrics import MetricsSettings

ACTIONS = ("scrape", "rules", "dashboards", "push")
RULES_FILE = "hxp-rules.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """What follows `hxp-stack metrics`; `host` is where the services are, as Prometheus sees them."""

    action: str
    host: str = "127.0.0.1"
    environment: str | None = None
    out: Path | None = None
    assignments: tuple[str, ...] = ()

    def settings(self) -> MetricsSettings:
        found = self.all_settings()["metrics"]
        assert isinstance(found, MetricsSettings)  # noqa: S101 - a mistake of ours, not of a caller
        return found

    def all_settings(self) -> Mapping[str, Settings]:
        """Return the settings of every service."""
        from reference_stack.services.infrastructure.configured import load

        file = None if self.environment is None else find_environment(self.environment)
        asked = ConfigurationSettings(environment_file=file, assignments=self.assignments)
        return load(asked, os.environ).effective.services


def run(asked: Asked) -> int:
    """Do what is asked; return the exit code."""
    actions: Mapping[str, Callable[[Asked], None]] = {
        "scrape": _scrape,
        "rules": _rules,
        "dashboards": _dashboards,
        "push": _push,
    }
    actions[asked.action](asked)
    return 0


def _scrape(asked: Asked) -> None:
    from reference_stack.services.integration.metrics.embedded import configuration, key_file

    ports = {name: spec.port for name, spec in load_catalogue().items()}
    keyed = []
    gateway = asked.all_settings()["api_gateway"]
    if isinstance(gateway, ApiGatewaySettings):
        if gateway.metrics.port is not None:
            ports["api_gateway"] = gateway.metrics.port
        if gateway.metrics.key is not None:
            keyed.append("api_gateway")
            place = "beside the configuration, readable by Prometheus alone"
            print(f"put the gateway's metrics.key into {key_file('api_gateway')}, {place}", file=sys.stderr)
    interval_s = asked.settings().collection_interval_s
    content = configuration(ports, interval_s=interval_s, host=asked.host, rules=RULES_FILE, keyed=keyed)
    _write(asked, "prometheus.json", content)


def _rules(asked: Asked) -> None:
    from reference_stack.services.integration.metrics.rules import rules

    _write(asked, RULES_FILE, rules(asked.settings().collection_interval_s))


def _dashboards(asked: Asked) -> None:
    from reference_stack.services.integration.metrics.dashboards import board
    from reference_stack.services.integration.metrics.queries import BOARDS

    for name in BOARDS:
        _write(asked, f"hxp-{name}.json", board(name))


def _write(asked: Asked, name: str, content: object) -> None:
    text = json.dumps(content, indent=2)
    if asked.out is None:
        print(text)
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / name).write_text(text + "\n", encoding="utf-8")
    print(asked.out / name)


def _push(asked: Asked) -> None:
    from reference_stack.services.integration.metrics.dashboards import board
    from reference_stack.services.integration.metrics.grafana import push
    from reference_stack.services.integration.metrics.queries import BOARDS

    settings = asked.settings()
    if not settings.grafana_host:
        hint = "hxp-stack metrics push --env production, or --set metrics.grafana_host=HOST"
        raise SettingsError("no Grafana is configured", hint=hint)
    done = asyncio.run(push(settings, [board(name) for name in BOARDS]))
    print("\n".join(f"{settings.grafana_url}/d/{uid}" for uid in done))
