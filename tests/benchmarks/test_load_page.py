"""What a benchmark found comes to its place in the docs, and what several clients did is said in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import load_cost
from benchmarks.load.page import FIGURES, put
from benchmarks.load_scale import Row, conclusions

HELD = Row(
    100.0,
    1,
    sent_share=1.0,
    send_lag_s=0.0,
    ttft_error_s=0.0,
    busiest_share=0.5,
    busiest_cpu_s=2.0,
    cpu_per_token_s=0.0,
)


def test_the_machines_speed_stands_beside_what_a_token_costs() -> None:
    """Every column of the cost curve has its cell, and the yardstick is in the unit of the cost of a token."""
    row = load_cost.Row(1200.0, 64, 0.4, 1.0, 0, 0.9, 12e-6, 30_000_000, 0.5, 1e-4, 1e-5, 1e-5, 1.0, yardstick_s=120e-6)
    cells = dict(zip(load_cost.HEAD, row.cells(), strict=True))

    assert (cells["us/token"], cells["yardstick us"], cells["held"]) == ("12", "120", "yes")


BENCHMARKS = ("load_client", "load_noise", "load_noise_peers", "load_cost", "load_scale", "load_certificate")


def test_only_the_own_place_of_a_page_is_written(tmp_path: Path) -> None:
    """What stands before, between and after stays, however often it is written."""
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n")
    put("x", "first\n", page)
    put("x", "new\n\n", page)
    assert page.read_text() == (
        "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n"
    )
    with pytest.raises(ValueError, match="no place for z"):
        put("z", "new", page)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_page_of_figures_has_a_place_for_each(name: str) -> None:
    """A benchmark of minutes does not end with an error because the docs have no room for it."""
    page = FIGURES.read_text(encoding="utf-8")
    assert page.count(f"<!-- {name}: begin -->") == page.count(f"<!-- {name}: end -->") == 1
    assert page.index(f"<!-- {name}: begin -->") < page.index(f"<!-- {name}: end -->")


def test_ceilings_and_relief_are_said() -> None:
    """Where each number of clients held, what the second took off the first, and the ratio."""
    rows = [HELD, replace(HELD, clients=2, busiest_cpu_s=1.0), replace(HELD, rate_rps=200.0, send_lag_s=1.0)]
    rows.append(replace(HELD, rate_rps=200.0, clients=2, busiest_cpu_s=1.5))
    assert conclusions(rows, [1, 2]) == [
        "- 1 clients: held up to 100 rps",
        "- 2 clients: held up to 200 rps",
        "- 100 rps: the busiest of 2 took 0.50 of the CPU of 1",
        "- 200 rps: the busiest of 2 took 0.75 of the CPU of 1",
        "- ceiling of 2 over that of 1: 2.00",
    ]
    assert conclusions([replace(HELD, send_lag_s=1.0)], [1]) == ["- 1 clients: held up to 0 rps"]
