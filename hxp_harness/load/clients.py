"""How many client processes a load takes on one machine. Pure."""

from __future__ import annotations

# One client keeps up with so many a second and still has a third of its core to spare, on the machines that
# docs/reference/figures.md names; a request costs about as much as eight tokens, for it is made, sent and parsed.
EVENTS_PER_CLIENT = 40_000.0
EVENTS_OF_A_REQUEST = 8


def enough_clients(rate_rps: float, tokens: int, cores: int) -> int:
    """Return how many client processes are enough for `rate_rps` streams of `tokens` tokens.

    At most one a core, and one core is left for what is not a client.
    """
    events_per_s = rate_rps * (tokens + EVENTS_OF_A_REQUEST)
    wanted = int(-(-events_per_s // EVENTS_PER_CLIENT))
    return max(1, min(wanted, cores - 1))
