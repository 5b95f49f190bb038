"""Prometheus without an installation: found in PATH or unpacked from the distribution's package, no root needed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr

from reference_stack.errors import NotReady
from reference_stack.schemas.common.program import Program
from reference_stack.services.integration.metrics.rules import rules

_FETCH_S = 120.0
TOOLS = "tools"
_NONE: Mapping[str, SecretStr] = MappingProxyType({})


def find(cache: Path) -> Path | None:
    """Return the binary: the one in PATH, else the one that `fetch` left beside `cache`, else None."""
    in_path = shutil.which("prometheus")
    if in_path is not None:
        return Path(in_path)
    unpacked = cache.parent / TOOLS / "usr" / "bin" / "prometheus"
    return unpacked if unpacked.exists() else None


def fetch(cache: Path, limit_s: float = _FETCH_S) -> Path:
    """Download the distribution's package and unpack it beside `cache`; return the binary.

    Raises NotReady with the reason: no apt, no network, no such package, not done in `limit_s`.
    """
    tools = cache.parent / TOOLS
    tools.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NotReady("Prometheus is fetched with apt-get, which is not here", hint="put `prometheus` into PATH")
    with tempfile.TemporaryDirectory(dir=tools.parent) as folder:
        _run(["apt-get", "download", "prometheus"], folder, limit_s)
        package = next(Path(folder).glob("prometheus_*.deb"))
        draft = Path(folder) / "unpacked"
        _run(["dpkg-deb", "-x", str(package), str(draft)], folder, limit_s)
        with contextlib.suppress(OSError):  # somebody else was faster, with the same
            draft.rename(tools)
    return tools / "usr" / "bin" / "prometheus"


def _run(argv: list[str], folder: str, limit_s: float) -> None:
    hint = "apt-get update, or put `prometheus` into PATH"
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise NotReady(f"{argv[0]} took longer than {limit_s:g} s", hint=hint) from None
    if done.returncode != 0:
        raise NotReady(f"{argv[0]} failed: {done.stderr.strip()[-300:]}", hint=hint)


class EmbeddedPrometheus:
    """A Prometheus of this stack alone, its data in `folder`."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._folder = folder / "prometheus"

    def prepare(
        self, port: int, scraped: Mapping[str, int], *, interval_s: int = 15, keys: Mapping[str, SecretStr] = _NONE
    ) -> Program:
        """Write the configuration that scrapes `scraped` (service: port of its face); return the program.

        `keys` are what services want to be shown for their metrics: each is put into a file that only we can read.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, key in keys.items():
            _write_secret(self._folder / key_file(name), key.get_secret_value())
        file = self._folder / "prometheus.yml"
        (self._folder / "rules.json").write_text(json.dumps(rules(interval_s), indent=2), encoding="utf-8")
        settings = configuration(scraped, interval_s=interval_s, rules="rules.json", keyed=keys)
        file.write_text(json.dumps(settings, indent=2), encoding="utf-8")  # JSON is YAML
        flags = {
            "config.file": file,
            "storage.tsdb.path": self._folder / "tsdb",
            "storage.tsdb.retention.time": "1d",
            "web.listen-address": f"127.0.0.1:{port}",
            "log.level": "warn",
        }
        words = [f"--{name}={value}" for name, value in flags.items()]
        return Program((str(self._binary), *words), {"GOMAXPROCS": "2"})


def _write_secret(file: Path, secret: str) -> None:
    file.unlink(missing_ok=True)  # one that was there may be open to others
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        written.write(secret)


def key_file(service: str) -> str:
    """Return the name of the file, beside Prometheus's configuration, that has the key to a service's metrics."""
    return f"{service}-metrics.key"


def configuration(
    scraped: Mapping[str, int],
    *,
    interval_s: int,
    host: str = "127.0.0.1",
    rules: str = "",
    keyed: Collection[str] = (),
) -> dict[str, object]:
    """Return Prometheus's configuration: one job a service, on its face at `host`; `rules` is a file beside it.

    The `keyed` services want a key, which stands in a file (`key_file`) and not here.
    """
    jobs: list[dict[str, object]] = [
        {"job_name": name, "static_configs": [{"targets": [f"{host}:{port}"], "labels": {"service": name}}]}
        for name, port in scraped.items()
    ]
    for job in jobs:
        if job["job_name"] == "monitoring":  # what it says is about other services, whose names it gives
            job["honor_labels"] = True
        if job["job_name"] in keyed:
            job["authorization"] = {"type": "Bearer", "credentials_file": key_file(str(job["job_name"]))}
    return {
        "global": {
            "scrape_interval": f"{interval_s}s",
            "scrape_timeout": f"{min(interval_s, 5)}s",
            "evaluation_interval": f"{interval_s}s",
        },
        "rule_files": [rules] if rules else [],
        "scrape_configs": jobs,
    }
