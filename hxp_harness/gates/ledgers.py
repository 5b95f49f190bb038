"""Checks of the counts: the client's tokens, the server's usage and the server's counters must tell one story."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hxp_harness.gates.facts import RunFacts
from hxp_harness.gates.gate import Gate
from hxp_harness.gates.outcome import Check, CheckOutcome
from hxp_harness.metrics.table import TraceTable

TOLERANCE = 0.01
LENGTH_TOLERANCE = 0.10
MOST_CACHED = 0.05  # of looked-up prefix tokens, under a cold contract: chat templates share their first block
_NEEDS_TOKENS = {"tpot", "output_throughput", "output_tokens", "prompt_tokens"}

OK, FAILED, NOT_PROVEN = CheckOutcome.OK, CheckOutcome.FAILED, CheckOutcome.NOT_PROVEN


def check_tokens(table: TraceTable, gates: Sequence[Gate], facts: RunFacts) -> Check:
    """Compare output tokens three ways: arrivals at the client, `usage`, the server's counter; within 1 %."""
    name = "tokens agree"
    ok = table.ok
    usage = int(table.output_tokens[ok].clip(min=0).sum())
    told = []
    seen = _client_count(table)
    if seen is not None:
        if abs(seen - usage) > TOLERANCE * max(usage, 1):
            return Check(name, FAILED, f"The client saw {seen} output tokens, the server's usage says {usage}.")
        told.append("the client")
    for counter, own, most in (
        ("generation_tokens", usage, int(table.asked_output_tokens[~ok].sum())),
        ("prompt_tokens", int(table.prompt_tokens[ok].clip(min=0).sum()), _failed_prompt(table)),
    ):
        counted = _delta(facts, counter)
        if counted is None:
            continue
        # what failed requests cost the server is unknown, up to what they asked for
        if not (1 - TOLERANCE) * own <= counted <= (1 + TOLERANCE) * (own + most):
            words = counter.replace("_", " ")
            return Check(
                name, FAILED, f"The server counted {counted:.0f} {words}, its usage says {own}: more than 1 % off."
            )
        told.append(f"the server's {counter.replace('_', ' ')}")
    if told:
        return Check(name, OK, f"Usage ({usage} output tokens) agrees with {' and '.join(told)} within 1 %.")
    return _unproven(name, gates, "Only the server's usage tells how many tokens there were; nothing confirms it.")


def _client_count(table: TraceTable) -> int | None:
    """Return the client's own count, where the server said with each chunk how many tokens it carries."""
    ok = table.ok
    seen, chunks = table.tokens_seen[ok].sum(), table.chunks[ok].sum()
    usage = table.output_tokens[ok].clip(min=0).sum()
    if not table.stream or (seen == chunks and seen < (1 - TOLERANCE) * usage):
        return None  # chunks carry several tokens each, and nobody says how many
    return int(seen)


def _failed_prompt(table: TraceTable) -> int:
    """Return the most prompt tokens that failed requests can have cost; templates and words add to what was asked."""
    ok = table.ok
    asked, used = table.asked_prompt_tokens[ok].sum(), table.prompt_tokens[ok].clip(min=0).sum()
    scale = max(float(used) / float(asked), 1.0) if asked else 1.0
    return int(table.asked_prompt_tokens[~ok].sum() * scale)


def _delta(facts: RunFacts, counter: str) -> float | None:
    if facts.before is None or facts.after is None:
        return None
    return facts.after.since(facts.before, counter)


def _unproven(name: str, gates: Sequence[Gate], sentence: str) -> Check:
    needing = [str(gate) for gate in gates if gate.metric in _NEEDS_TOKENS]
    if needing:
        return Check(name, FAILED, f"{sentence} The gate {needing[0]} needs it.")
    return Check(name, NOT_PROVEN, sentence)


def check_lengths(table: TraceTable, facts: RunFacts) -> list[Check]:
    """The mean lengths of prompts and answers lie within 90-110 % of the contract, or another load was judged."""
    measured = table.ok & (table.replicate >= 0)
    checks = []
    for name, values, asked in (
        ("prompt length", table.prompt_tokens, facts.asked.prompt_tokens),
        ("output length", table.output_tokens, facts.asked.output_tokens),
    ):
        known = values[measured & (values >= 0)]
        if len(known) == 0:
            checks.append(Check(name, NOT_PROVEN, f"No request told its {name}."))
            continue
        mean = float(known.mean())
        fine = abs(mean / asked - 1) <= LENGTH_TOLERANCE
        sentence = f"The mean {name} was {mean:.1f} tokens, the contract says {asked:g}."
        if name == "prompt length":
            exact = float((table.prompt_tokens == table.asked_prompt_tokens)[measured & (values >= 0)].mean())
            sentence += f" {exact:.1%} of prompts were exactly as long as asked."
        checks.append(Check(name, OK if fine else FAILED, sentence))
    return checks


def check_cache(table: TraceTable, facts: RunFacts) -> Check:
    """Hardly more prompt tokens than the contract makes alike may come out of the server's prefix cache."""
    name = "prefix cache"
    hits, queries = _delta(facts, "prefix_hits"), _delta(facts, "prefix_queries")
    if not hits and not queries:
        told = table.ok & (table.cached_tokens >= 0)
        if not told.any():
            return Check(name, NOT_PROVEN, "The server does not say how much of the prompts it had cached.")
        hits = float(table.cached_tokens[told].sum())
        queries = float(np.maximum(table.prompt_tokens[told], 0).sum())
    share = (hits or 0.0) / queries if queries else 0.0
    asked = facts.asked
    bounded = asked.cache == "cold" or asked.shared > 0
    fine = not bounded or share <= asked.shared + MOST_CACHED
    contract = f"shares {asked.shared:.1%} of them" if asked.shared else f"is {asked.cache}"
    sentence = f"{share:.1%} of prompt tokens came from the prefix cache; the contract {contract}."
    return Check(name, OK if fine else FAILED, sentence)


def check_restart(facts: RunFacts) -> Check:
    """The server that ended the run is the one that began it."""
    name = "server not restarted"
    began, moved = _delta(facts, "process_start_s"), _delta(facts, "generation_tokens")
    if began is None and moved is None:
        return Check(name, NOT_PROVEN, "The server has no page of counters that would show a restart.")
    if (began is not None and abs(began) > 1.0) or (moved is not None and moved < 0):
        return Check(name, FAILED, "The server was restarted during the run.")
    return Check(name, OK, "The server ran through: start time and counters went on.")
