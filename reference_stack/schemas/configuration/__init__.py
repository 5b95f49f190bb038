"""Settings of each service: strict, frozen, one module a service."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from reference_stack.schemas.configuration.base import ServiceSettings

_HERE = __name__
# service -> where its settings class is, as "module:name"
SETTINGS: Mapping[str, str] = {
    "mixtral": f"{_HERE}.model:ModelSettings",
    "hermes": f"{_HERE}.model:ModelSettings",
    "openchat": f"{_HERE}.model:ModelSettings",
    "phi3": f"{_HERE}.model:ModelSettings",
    "api_gateway": f"{_HERE}.api_gateway:ApiGatewaySettings",
    "monitoring": f"{_HERE}.monitoring:MonitoringSettings",
    "configuration": f"{_HERE}.configuration:ConfigurationSettings",
    "storage": f"{_HERE}.storage:StorageSettings",
    "database": f"{_HERE}.database:DatabaseSettings",
    "vector_database": f"{_HERE}.vector_database:VectorDatabaseSettings",
    "cache": f"{_HERE}.cache:CacheSettings",
    "metrics": f"{_HERE}.metrics:MetricsSettings",
}


def settings_class(service: str) -> type[ServiceSettings]:
    """Return the settings class of one of the twelve; the module is imported only now."""
    module, name = SETTINGS[service].split(":")
    found: type[ServiceSettings] = getattr(importlib.import_module(module), name)
    return found
