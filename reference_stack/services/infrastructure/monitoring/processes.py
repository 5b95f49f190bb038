"""What the processes of a stack take of the machine, as metrics: each service with all its children."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


class Processes(Collector):
    """Reads which processes there are from the state file of a stack, each time that somebody looks.

    The state file is what `hxp-stack up` writes: services, each with the `pid` of its process.
    """

    def __init__(self, state_file: Path) -> None:
        self._state_file = state_file

    def collect(self) -> Iterator[Metric]:
        cpu = CounterMetricFamily("hxp_process_cpu_seconds", "CPU time of a service's processes.", labels=["service"])
        memory = GaugeMetricFamily("hxp_process_resident_bytes", "Memory of a service's processes.", labels=["service"])
        files = GaugeMetricFamily("hxp_process_open_files", "Open descriptors of a service.", labels=["service"])
        count = GaugeMetricFamily("hxp_process_count", "Processes of a service.", labels=["service"])
        for service, pid in _pids(self._state_file).items():
            rows = [row for process in _family(pid) if (row := _usage(process)) is not None]
            if not rows:
                continue
            cpu.add_metric([service], sum(row[0] for row in rows))
            memory.add_metric([service], sum(row[1] for row in rows))
            files.add_metric([service], sum(row[2] for row in rows))
            count.add_metric([service], len(rows))
        yield from (cpu, memory, files, count)


def _pids(state_file: Path) -> Mapping[str, int]:
    try:
        services = json.loads(state_file.read_text(encoding="utf-8"))["services"]
        return {str(name): int(row["pid"]) for name, row in services.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no stack, or one that is just starting
        return {}


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(*_GONE):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _usage(process: psutil.Process) -> tuple[float, int, int] | None:
    """Return CPU seconds, resident bytes and open descriptors; None for a process that went meanwhile."""
    with contextlib.suppress(*_GONE), process.oneshot():
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss, process.num_fds()
    return None
