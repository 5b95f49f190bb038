"""What the self-test says of its tables is worked out from them."""

from hxp_harness.gates.outcome import Outcome
from hxp_harness.selfcheck.holds import CLEAR_FAIL, CLEAR_PASS, server_lines, what_holds
from hxp_harness.selfcheck.servers import SERVERS
from hxp_harness.selfcheck.table import Cell
from hxp_harness.selfcheck.trial import Ended

PASS, FAIL, OPEN = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def cell(server: str, ratio: float, *ended: tuple[Outcome, float, int], level: bool = True) -> Cell:
    """So many runs that ended so, after such a part of the run."""
    found = Cell(server, ratio, 8, level)
    for outcome, used, count in ended:
        for _ in range(count):
            found.add(Ended(outcome, used), [])
    return found


def test_the_worst_cell_is_named() -> None:
    """Where verdicts are false the worst cell is named with its rate, and what so many runs can show."""
    cells = [
        cell("one", 1.0, (PASS, 1.0, 2), (OPEN, 1.0, 98)),
        cell("two", 1.1, (PASS, 0.5, 3), (FAIL, 0.5, 97)),
        cell("three", 0.75, (PASS, 0.25, 4), (OPEN, 1.0, 96), level=False),  # no PASS is right
    ]

    passes, fails, shown, *_ = what_holds(cells)
    assert passes == "- False PASS: most of three at 0.75, 4.0% [1.1%, 9.9%], where 1% are allowed."
    assert fails == "- No run ended as false FAIL."
    assert "100 runs with none false shows a rate of 0.0% [0.0%, 3.6%]" in shown


def test_lengths_are_told_where_verdicts_come() -> None:
    """Servers stand in the order of what a clear verdict takes; where half or fewer decide they are named."""
    cells = [
        cell("slow", CLEAR_FAIL, (FAIL, 0.5, 9), (OPEN, 1.0, 1)),
        cell("quick", CLEAR_FAIL, (FAIL, 0.125, 10)),
        cell("stalling", CLEAR_FAIL, (FAIL, 0.75, 5), (OPEN, 1.0, 5)),
        cell("stalling", CLEAR_PASS, (OPEN, 1.0, 10)),
    ]

    (told,) = what_holds(cells)[3:]
    assert told.startswith("- A clear FAIL (at 1.5) takes so much of the planned run: quick 12%, slow 50%. In half of")
    assert told.endswith("it does not come: stalling.")


def test_every_server_is_told() -> None:
    """The table of the servers has a line for each of those that are tried."""
    assert [line.split(" | ")[0] for line in server_lines(SERVERS)[2:]] == [f"| {one.name}" for one in SERVERS]
