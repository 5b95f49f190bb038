"""What the server said meanwhile: joined with the record on time, drawn on the time axis of the latencies, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from hxp_harness.report.record import Figures, Record, Replicate
from hxp_harness.telemetry.definitions import Found, coverage, server_metrics
from hxp_harness.telemetry.reading import Plan
from hxp_harness.telemetry.series import ServerSeries

_FULL = 0.95  # of the KV cache: from here on a scheduler has to hold requests back
_QUEUED = 0.1  # share of the time in the server that is worth a word


def joined(
    replicates: Sequence[Replicate], series: ServerSeries | None
) -> tuple[tuple[Replicate, ...], dict[str, Figures], dict[str, object]]:
    """Return the replicates with what the server said in their windows, the same of all of them, and the coverage."""
    if series is None:
        return tuple(replicates), {}, {}
    found = tuple(
        one.model_copy(update={"telemetry": _figures(server_metrics(series.between(one.started_s, one.ended_s)))})
        if one.started_s is not None and one.ended_s is not None
        else one
        for one in replicates
    )
    starts_s = [one.started_s for one in replicates if one.started_s is not None]
    ends_s = [one.ended_s for one in replicates if one.ended_s is not None]
    measured = series.between(min(starts_s), max(ends_s)) if starts_s and ends_s else series
    every_s = Plan().every_s
    return (
        found,
        _figures(server_metrics(measured)),
        {"during": {"every_s": every_s, **asdict(coverage(measured, every_s))}},
    )


def _figures(found: Mapping[str, Found]) -> dict[str, Figures]:
    return {name: Figures(mean=one.value, unit=one.unit, n=one.n) for name, one in found.items()}


def sentences(record: Record) -> list[str]:
    """Say what the server's own figures hint at: where requests waited, and for what. Hints, no proof."""
    told = {name: figures.mean for name, figures in record.telemetry.items() if figures.mean is not None}
    found = []
    waiting, running = told.get("waiting_mean", 0.0), told.get("running_mean", 0.0)
    if waiting and waiting / (waiting + running) > _QUEUED:
        share = f"{waiting / (waiting + running):.0%} of the time that requests spent in the server"
        found.append(f"{share} they waited in its queue, {waiting:.3g} of them on average.")
    elif "running_mean" in told:
        found.append(f"The server worked on {running:.3g} requests on average and let hardly any wait.")
    if told.get("preemptions"):
        found.append(f"It put back {told['preemptions']:.0f} requests for want of KV memory.")
    if told.get("kv_usage_peak", 0.0) >= _FULL:
        found.append(
            f"Its KV cache was full to {told['kv_usage_peak']:.0%}: more memory for it would admit more requests."
        )
    if "energy_per_token" in told:
        found.append(f"An output token took {told['energy_per_token']:.3g} J.")
    return found
