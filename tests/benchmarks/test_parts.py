from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.gateway import peers
from benchmarks.gateway.backing import backing
from benchmarks.gateway.experiments import CLOSED, FIRST_EVENT
from benchmarks.gateway.measure import Bench
from benchmarks.gateway.parts import Asked, compare
from benchmarks.gateway.programs import CannotRun, Programs, backend
from benchmarks.gateway.room import Room

CACHE = Path(__file__).parents[2] / ".hxp" / "cache"


def test_gateways_are_compared(programs: Programs, tmp_path: Path) -> None:
    """Who takes part is in the table and judged; what was to be compared with who does not is not measured."""
    said: list[str] = []
    cores = frozenset(os.sched_getaffinity(0))
    (tmp_path / "backing").mkdir()
    with backend(programs) as served, backing(tmp_path / "backing", CACHE, cores) as behind:
        room = Room(Bench(programs, served, tmp_path, cores), behind, cores, CACHE, said.append)
        part = compare(room, Asked(["our gateway"], [CLOSED, FIRST_EVENT], 1, 0.2))
    lines = part.markdown.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| direct", "| our gateway"]
    assert any(line.startswith("| CPU a request, of nginx's | <= 2 | - | not measured |") for line in lines)
    assert any(line.startswith("| requests/s on one core |") and "not measured" not in line for line in lines)
    assert any(line.startswith("| events/s carried |") and "not measured" in line for line in lines)
    assert len(part.readings) == 4
    assert said[-1].startswith("4/4, 0 s left: our gateway, first event:")


def test_nginx_that_cannot_be_fetched_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt-get, or when it fails, the error says so and what else would do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match="put nginx into PATH"):
        peers.nginx(tmp_path / "cache", lambda _said: None)
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2; exit 100\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(CannotRun, match="Unable to locate package"):
        peers.nginx(tmp_path / "cache", lambda _said: None)
    (tmp_path / "nginx").write_text("#!/bin/sh\n")
    (tmp_path / "nginx").chmod(0o755)
    assert peers.nginx(tmp_path / "cache", lambda _said: None) == tmp_path / "nginx"
