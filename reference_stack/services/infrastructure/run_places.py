"""Where runs are kept: in a folder, in an S3-compatible store, or in the memory of this process."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from reference_stack.schemas.configuration.storage import StorageSettings
from reference_stack.services.infrastructure.run_store import RunStore
from reference_stack.services.infrastructure.runs import Runs


def connect(settings: StorageSettings) -> Runs | None:
    """Return where the runs are kept that `settings` name; None where none are."""
    if settings.backend == "mock":
        return _remote(f"memory://{uuid.uuid4().hex}", {})
    if settings.backend == "external" and settings.url:
        return _remote(settings.url, _options(settings))
    return None if settings.store is None else RunStore(settings.store)


def runs_at(place: str) -> Runs:
    """Return the runs that are kept in a folder, or at s3://BUCKET/PREFIX as the AWS variables say."""
    return _remote(place, {}) if "://" in place else RunStore(Path(place))


def _remote(url: str, options: Mapping[str, object]) -> Runs:
    # fsspec takes a while to import, and who keeps runs in a folder does not need it.
    from reference_stack.services.infrastructure.remote_runs import RemoteRuns

    return RemoteRuns(url, options)


def _options(settings: StorageSettings) -> dict[str, object]:
    deadlines = {"connect_timeout": settings.timeout_s, "read_timeout": settings.timeout_s}
    options: dict[str, object] = {"config_kwargs": {**deadlines, "retries": {"total_max_attempts": 1}}}
    if settings.endpoint is not None:
        options["endpoint_url"] = str(settings.endpoint)
    if settings.access_key:
        options |= {"key": settings.access_key, "secret": settings.secret_key.get_secret_value()}
    return options
