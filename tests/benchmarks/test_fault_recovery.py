"""The table of recovery times is what the tests printed, whatever pytest prints between."""

from __future__ import annotations

from benchmarks.fault_recovery import PAGE, recoveries, table

PRINTED = """\
.{"service": "cache", "fault": "hung", "lasted_s": 10.0, "recovered_s": 0.123}
..{"service": "cache", "fault": "crash", "lasted_s": 10.0, "recovered_s": 1.5}
F{"not": "ours"}
{broken
5 passed in 3.00s
"""


def test_every_cell_is_what_was_printed() -> None:
    """A service has a row, a fault a column; what was not measured is a dash."""
    text = table(recoveries(PRINTED.splitlines()), 10.0)

    assert "lasted 10 s" in text
    assert text.splitlines()[-1] == "| cache | - | - | 0.12 | 1.50 |"


def test_the_page_has_a_place_for_it() -> None:
    """What the program writes has its marks in the docs."""
    page = PAGE.read_text(encoding="utf-8")

    assert page.count("<!-- fault_recovery: begin -->") == page.count("<!-- fault_recovery: end -->") == 1
