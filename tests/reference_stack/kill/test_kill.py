"""No crash loses a usage row or doubles one: SIGKILL of workers and of the whole gateway, and crashes of PostgreSQL."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.reference_stack.kill.campaign import Size, run

SIZES = {
    "short": Size(requests=1500, kills=3, crashes=1),
    "night": Size(requests=110_000, kills=60, crashes=24, clients=48),
}


def test_three_ledgers_agree_after_a_campaign(tmp_path: Path) -> None:
    """Client, model and usage log agree on each request, whatever was killed: none lost, none doubled, none misbilled.

    HXP_KILL_SIZE=night, as the session gateway_kill sets it, makes it the size that is claimed.
    """
    size = SIZES[os.environ.get("HXP_KILL_SIZE", "short")]

    outcome = run(size, tmp_path)

    said = {
        "requests": len(outcome.client),
        "rows": outcome.rows,
        "lost": outcome.count("lost"),
        "duplicate": outcome.count("duplicate"),
        "phantom": outcome.count("phantom"),
        "unbilled": len(outcome.unbilled),
        "breaches": len(outcome.found),
        "outcomes": outcome.outcomes,
        "statuses": outcome.statuses,
        "sigkills": outcome.kills,
        "postgres_crashes": outcome.crashes,
        "stops_in_vain": outcome.stops_in_vain,
        "took_s": round(outcome.took_s, 1),
    }
    print(json.dumps(said))
    assert outcome.found == []
    assert outcome.unbilled == []
    assert (outcome.kills, outcome.crashes) == (size.kills, size.crashes)
    assert outcome.rows >= 0.9 * len(outcome.client)
    assert len(outcome.client) >= size.requests
    assert outcome.outcomes["interrupted"] > 0, "nothing was cut off, so nothing is proven"
