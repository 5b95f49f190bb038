"""The search of the ceiling against real golden servers, for answers of the contract's length and of one token."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hxp_harness.certify import SCALE
from hxp_harness.certify.ceiling import Ceiling, Point, find_ceiling
from hxp_harness.certify.certificate import Certificate, Drive, certify
from hxp_harness.errors import InvalidRun
from hxp_harness.load.schedule import peak_rps, steady
from hxp_harness.profile import Contract

PROBE_S = 2.0  # measured seconds of one try


def search_ceilings(
    folder: Path,
    contract: Contract,
    *,
    limit_s: float,
    seed: int,
    most_s: float,
    drive: Drive | None = None,
    host: str = "127.0.0.1",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Ceiling, ...]:
    """Find the ceiling for answers of the contract's length, and of one token, in about `most_s` seconds in all.

    The two tell what a request costs and what a token costs. The golden server is at `host`. Nothing of a try is kept
    but its point.
    """
    lengths = dict.fromkeys((contract.output_tokens, 1))
    found = []
    for tokens in lengths:
        shape = steady(contract).model_copy(update={"output_tokens": tokens})

        def probe(rate_rps: float, shape: Contract = shape) -> Point:
            return _probe(folder / "try", shape, rate_rps, limit_s=limit_s, seed=seed, drive=drive, host=host)

        start_rps = peak_rps(contract) * SCALE
        found.append(find_ceiling(probe, tokens, start_rps, most_s=most_s / len(lengths), say=say))
    return tuple(found)


def _probe(
    folder: Path, contract: Contract, rate_rps: float, *, limit_s: float, seed: int, drive: Drive | None, host: str
) -> Point:
    shape = contract.at_rate(rate_rps)
    try:
        found = certify(
            folder, shape, limit_s=limit_s, seed=seed, scale=1.0, duration_s=PROBE_S, drive=drive, host=host
        )
    except InvalidRun as error:
        return Point(rate_rps, ok=False, why=error.message)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return point_of(rate_rps, found)


def point_of(rate_rps: float, found: Certificate) -> Point:
    """Return what the search needs of a certificate."""
    return Point(
        rate_rps,
        ok=found.ok,
        why="" if found.ok else found.reasons[0],
        events_per_s=found.fidelity.events_per_s,
        worst_error_s=max((error.worst_s for name, error in found.errors.items() if name != "sent"), default=0.0),
        send_lag_p99_s=found.fidelity.send_lag_p99_s,
        cpu_share=found.fidelity.cpu_share,
        peak_rss_bytes=found.fidelity.peak_rss_bytes,
        golden_lag_p99_s=found.golden_lag_p99_s,
        golden_cpu_share=found.golden_cpu_share,
    )
