from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.gateway import peers
from benchmarks.gateway.backing import backing
from benchmarks.gateway.experiments import CLOSED, FIRST_EVENT
from benchmarks.gateway.measure import Bench, Reading
from benchmarks.gateway.neighbours import ALONE, isolation_table
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


def test_a_neighbours_price_is_judged_in_its_own_round() -> None:
    """The ratio is to the same round's p99 alone; what fails is counted, and more than a fifth beyond is missed."""
    rounds = {ALONE: (1000, 4000), "calm": (1100, 4400), "loud": (1300, 6000)}
    readings = [
        Reading("ours", name, number, 1, 1, 1, 0, 1, float(p99_us), 0, 1, 1, int(name == "loud"), "")
        for name, found in rounds.items()
        for number, p99_us in enumerate(found)
    ]
    lines = isolation_table(readings).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| alone", "| calm", "| loud"]
    assert lines[3].endswith("| 0 | 1.10 (1.10 to 1.10) | <= 1.2 | met |")
    assert lines[4].endswith("| 2 | 1.40 (1.30 to 1.50) | <= 1.2 | missed |")


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
