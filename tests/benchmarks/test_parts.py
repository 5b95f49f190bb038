from __future__ import annotations

import os
from math import comb, inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gateway import peers
from benchmarks.gateway.backing import backing
from benchmarks.gateway.experiments import CLOSED, FIRST_EVENT
from benchmarks.gateway.isolation import Pair, isolation_table, surely
from benchmarks.gateway.measure import Bench, Reading
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


def reading(p99_us: float, core_share: float = 0.1, errors: int = 0) -> Reading:
    return Reading("ours", "x", 0, 1, core_share, 1, 0, 1, p99_us, 0, 1, 1, errors, "")


def pairs(kind: str, *ratios: float, errors: int = 0) -> list[Pair]:
    """A neighbour that does 100 things a second, on a machine that is slower each time."""
    base_us = [1000.0 * number for number in range(1, len(ratios) + 1)]
    return [
        Pair(kind, reading(base * ratio, 0.12, errors), reading(base), 100.0)
        for base, ratio in zip(base_us, ratios, strict=True)
    ]


def test_a_neighbours_price_is_judged_by_pairs() -> None:
    """Met or missed where the ratios leave no doubt, whatever the machine did; an error is always too much."""
    found = [
        *pairs("calm", 1.1, 1.0, 1.15, 1.1, 1.05, 1.1),
        *pairs("loud", 1.3, 1.4, 1.5, 1.3, 9.0, 1.25),
        *pairs("unclear", 1.1, 1.0, 1.3, 1.1, 1.0, 1.1),
        *pairs("few", 1.0, 1.0),
        *pairs("wrong", *[1.0] * 6, errors=1),
    ]
    lines = isolation_table(found, [reading(900)]).splitlines()
    assert lines[2].startswith("| nobody | - | - | 0.90 | - | 0 |")
    assert lines[3].startswith("| calm | 100 | 200 (200 to 200) |")
    assert lines[3].endswith("| 0 | 1.10 (1.00 to 1.15) | <= 1.2 | met |")
    assert lines[4].endswith("| 0 | 1.35 (1.25 to 9.00) | <= 1.2 | missed |")
    assert lines[5].endswith("| 0 | 1.10 (1.00 to 1.30) | <= 1.2 | not shown |")
    assert lines[6].endswith("| 0 | 1.00 | <= 1.2 | not shown |")
    assert lines[7].endswith("| 6 | 1.00 (1.00 to 1.00) | <= 1.2 | missed |")


@given(st.integers(min_value=0, max_value=40))
def test_bounds_of_a_median_are_as_sure_as_they_say(count: int) -> None:
    """Counted over all ways to lie above or below the median, at most 2.5 % of them miss it on either side."""
    low, high = surely([float(number) for number in range(count)])
    if low == -inf:
        assert 2.0**-count > 0.025
        return
    below = int(low)  # so many of the values lie before the bound
    assert sum(comb(count, rank) for rank in range(below + 1)) / 2**count <= 0.025
    assert sum(comb(count, rank) for rank in range(below + 2)) / 2**count > 0.025
    assert high == count - 1 - low


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
