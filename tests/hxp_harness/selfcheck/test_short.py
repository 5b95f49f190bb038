"""Short runs are as short as may pass, or shorter, and their table tells when the rules for them err."""

from dataclasses import replace

from hxp_harness.gates.outcome import Outcome
from hxp_harness.selfcheck.servers import LONG_STALLS, SERVERS, truth
from hxp_harness.selfcheck.short import SHORT_RATIOS, requests_of, short_lines, try_short
from hxp_harness.selfcheck.table import broken


def test_runs_are_as_short_as_the_rule_allows() -> None:
    """The more requests a stall makes slow, the more a run must have to have met one."""
    few, many = (8 * requests_of(replace(LONG_STALLS, in_flight=together)) for together in (30.0, 105.0))

    assert 2764 <= few < 2772
    assert 9672 <= many < 9680


def test_a_quick_server_passes_and_one_that_stalls_does_not() -> None:
    """What is seldom slow is not taken for what never is: of 25 runs at the limit none passes."""
    servers = (SERVERS[0], LONG_STALLS)
    rows = [try_short(server, truth(server, 1, 2000, 400_000), 25, [1]) for server in servers]

    quick, stalling = ([cell.outcomes[Outcome.PASS] for cell in row] for row in rows)
    assert quick == [0, 25, 25, 25, 25]
    assert stalling[0] == 0
    assert stalling[-1] <= 5
    assert broken(cell for row in rows for cell in row) == []


def test_a_run_that_may_have_met_no_stall_passes_nothing() -> None:
    """A quarter of the least length passes neither at the limit, where the truth lies in stalls, nor far below it."""
    row = try_short(LONG_STALLS, truth(LONG_STALLS, 1, 2000, 400_000), 50, [1], part=4)

    assert [cell.runs for cell in row] == [50] * len(SHORT_RATIOS)
    assert [cell.outcomes[Outcome.PASS] for cell in row] == [0] * len(SHORT_RATIOS)
    assert broken(row) == []


def test_a_server_that_is_quicker_than_it_was_is_seen() -> None:
    """A false PASS of short runs breaks the promise as one of long runs does, and the table shows it."""
    row = try_short(SERVERS[0], 10.0, 25, [1])

    assert [one.split(": ")[0] for one in broken(row)] == ["independent, 8 x 346 at 1"]
    (head, _, line) = short_lines([row])
    assert head.count("|") == line.count("|") == len(SHORT_RATIOS) + 3
    assert line.startswith("| independent, 8 x 346 | 100.0% [86.3%, 100.0%] | 0.0% [0.0%, 13.7%] | 100% |")
