"""A certificate in lines for a terminal: every error, how the schedule was kept, and where measuring ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD = ("metric", "bias", "spread", "p50", "p99", "max", "width p99", "n")


def told(certificate: Mapping[str, Any]) -> str:
    """Return what certificate-before.json says, errors in ms."""
    rows = [_HEAD]
    for error in certificate["errors"].values():
        times = ("bias_mean_s", "spread_s", "p50_s", "p99_s", "max_s", "width_p99_s")
        rows.append((error["metric"], *(f"{error[name] * 1e3:.3f}" for name in times), str(error["n"])))
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    lines = ["error against the golden server's log, ms (what an interval covers is width, not error):"]
    lines += ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    fidelity = certificate["fidelity"]
    lags = {name: f"{fidelity[f'{name}_p99_s'] * 1e3:.3f} ms" for name in ("send_lag", "read_lag")}
    late, width = (f"{certificate[f'golden_{name}_p99_s'] * 1e3:.3f} ms" for name in ("lag", "width"))
    return "\n".join(
        (
            *lines,
            f"allowed: {certificate['bound_s'] * 1e3:.2f} ms, at {certificate['scale']:g} times the profile's rate",
            f"rate: {fidelity['achieved_rps']:.1f} of {fidelity['asked_rps']:.1f} rps, "  # noqa: ISC004 - one line
            f"{fidelity['events_per_s']:.0f} events/s, {fidelity['failed']} failed",
            f"client: send_lag p99 {lags['send_lag']}, read_lag p99 {lags['read_lag']}, "  # noqa: ISC004 - one line
            f"{fidelity['cpu_share']:.0%} of a core, {fidelity['peak_rss_bytes'] / 2**20:.0f} MiB",
            f"golden server: {certificate['golden_cpu_share']:.0%} of a core, up to {late} late at p99 "  # noqa: ISC004 - one line
            f"(its log says so), knows its times to {width}",
        )
    )
