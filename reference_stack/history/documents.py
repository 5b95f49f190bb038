"""What can be found of a run: a text for the whole, one a metric that is too high, one a check that failed. Pure.

The texts carry the words that people ask with, since the embedding knows no meaning.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reference_stack.history.record import Figure, Record

# metric -> what people say when there is too much of it
_COMPLAINTS: Mapping[str, str] = {
    "ttft": "slow first token, late time to first token",
    "e2e": "slow answer, high end to end latency",
    "tpot": "slow generation of tokens",
    "itl": "stutter, slow gaps between tokens",
    "error_rate": "failed requests, errors",
}
_HIGH = 1.5  # of the median of the same profile's runs counts as too much
_FEWEST = 2
_VERDICTS: Mapping[str, str] = {
    "PASS": "passed, met the target",
    "FAIL": "failed, missed the target",
    "INCONCLUSIVE": "inconclusive, undecided, not enough data",
    "INVALID": "invalid, cannot be trusted",
}


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a run; `about` is the metric or check, "" for the run as a whole."""

    run: str
    about: str
    text: str


Medians = Mapping[tuple[str, str], float]  # profile, metric


def medians_of(records: Sequence[Record]) -> Medians:
    """Return the (lower) median of each metric over the runs of a profile, where there are two at least."""
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        for metric in _COMPLAINTS:
            figure = record.metrics.get(metric)
            if figure is not None and figure.typical is not None:
                seen[record.profile.name, metric].append(figure.typical)
    return {key: statistics.median_low(values) for key, values in seen.items() if len(values) >= _FEWEST}


def documents_of(record: Record, medians: Medians) -> list[Document]:
    """Return the texts of a run, the one for the whole first."""
    where = " ".join(dict.fromkeys((record.profile.service, record.profile.name)))
    whole = [where, record.profile.title, record.evidence, _VERDICTS[record.verdict], *record.reasons]
    found = [Document(record.id, "", ". ".join(part for part in whole if part.strip()))]
    for metric, complaint in _COMPLAINTS.items():
        figure = record.metrics.get(metric)
        if figure is None or figure.typical is None:
            continue
        failed = any(gate.metric == metric and gate.outcome == "FAIL" for gate in record.gates)
        usual = medians.get((record.profile.name, metric), float("inf"))
        if failed or figure.typical > _HIGH * usual:
            ending = "missed its limit" if failed else f"far over its usual {_shown(figure, usual)}"
            text = f"{complaint} on {where}: {metric} {_shown(figure, figure.typical)}, {ending}"
            found.append(Document(record.id, metric, text))
    found += [
        Document(record.id, check.name, f"{check.name.replace('_', ' ')} failed on {where}: {check.sentence}")
        for check in record.checks
        if check.outcome == "failed"
    ]
    return found


def _shown(figure: Figure, value: float) -> str:
    if figure.unit == "s":
        return f"{value * 1000:.4g} ms"
    return f"{value * 100:.3g} %" if figure.unit == "ratio" else f"{value:.4g} {figure.unit}"
