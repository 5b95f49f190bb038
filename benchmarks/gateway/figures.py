"""What readings come to: medians and ranges over rounds, ratios within a round, what was demanded, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from statistics import median

from benchmarks.gateway.experiments import CLOSED, FIRST_EVENT, PACED, STREAMS
from benchmarks.gateway.measure import Reading

# A subject that uses less of its core is not what limits the rate.
_BUSY = 0.85
DIRECT, NGINX, ROUTER, LITELLM = "direct", "nginx", "vllm-router", "LiteLLM"
BARE = "bare relay in Python"
Value = Callable[[Reading], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """A median over rounds and its range; `of` says how many rounds, 0 that there are none."""

    middle: float
    low: float
    high: float
    of: int

    def shown(self, digits: int = 0) -> str:
        if not self.of:
            return "-"
        text = f"{self.middle:,.{digits}f}"
        return text if self.of == 1 else f"{text} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def figure(values: Iterable[float]) -> Figure:
    known = [value for value in values if value == value]  # noqa: PLR0124 - not a number is no reading
    return Figure(median(known), min(known), max(known), len(known)) if known else Figure(0.0, 0.0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class Readings:
    """All readings of a run; a round is one in which every subject took its turn."""

    all: Sequence[Reading]

    def subjects(self) -> list[str]:
        return list(dict.fromkeys(reading.subject for reading in self.all))

    def of(self, subject: str, experiment: str, value: Value) -> dict[int, float]:
        """Return round: value."""
        return {
            each.round: value(each) for each in self.all if (each.subject, each.experiment) == (subject, experiment)
        }

    def paired(
        self,
        subject: str,
        other: str,
        experiment: str,
        value: Value,
        combine: Callable[[float, float], float],
    ) -> Figure:
        """Combine the two subjects' values within each round."""
        ours, theirs = self.of(subject, experiment, value), self.of(other, experiment, value)
        return figure(combine(ours[number], theirs[number]) for number in ours if number in theirs)

    def ratio(self, subject: str, other: str, experiment: str) -> Figure:
        """CPU of one by that of the other."""
        return self.paired(subject, other, experiment, _cpu, _divide)

    def added(self, subject: str, experiment: str, value: Value) -> Figure:
        """How much longer than directly, in milliseconds."""
        return self.paired(subject, DIRECT, experiment, value, lambda mine, direct: (mine - direct) / 1e3)

    def peak_bytes(self, subject: str, value: Value) -> Figure:
        """The most memory of each round."""
        rounds = sorted({each.round for each in self.all})
        mine = [[value(each) for each in self.all if (each.subject, each.round) == (subject, n)] for n in rounds]
        return figure(max(values) for values in mine if values)


def _divide(mine: float, other: float) -> float:
    return mine / other if other else float("nan")


_cpu: Value = attrgetter("cpu_us")
_p50: Value = attrgetter("p50_us")
_p99: Value = attrgetter("p99_us")
_first_event: Value = attrgetter("first_event_p50_us")
_memory: Value = attrgetter("memory_bytes")
_requests: Value = attrgetter("requests_per_s")
_events: Value = attrgetter("events_per_s")


@dataclass(frozen=True, slots=True)
class Demand:
    """One line of what the gateway must reach: `limit` at most, or at least where `least`."""

    what: str
    found: Callable[[Readings, str], Figure]
    limit: float
    digits: int = 2
    least: bool = False

    def line(self, readings: Readings, subject: str) -> str:
        found = self.found(readings, subject)
        word = "not measured"
        if found.of:
            word = "met" if (found.middle >= self.limit if self.least else found.middle <= self.limit) else "missed"
        bound = f"{'>=' if self.least else '<='} {self.limit:,g}"
        return f"| {self.what} | {bound} | {found.shown(self.digits)} | {word} |"


def _ttft_ratio(readings: Readings, subject: str) -> Figure:
    """Added time to the first event, by that of vllm-router, within each round."""
    of = {name: readings.of(name, FIRST_EVENT, _first_event) for name in (DIRECT, subject, ROUTER)}
    rounds = set.intersection(*(set(values) for values in of.values()))
    return figure(_divide(of[subject][n] - of[DIRECT][n], of[ROUTER][n] - of[DIRECT][n]) for n in sorted(rounds))


DEMANDS = (
    Demand("CPU a request, of nginx's", lambda r, s: r.ratio(s, NGINX, CLOSED), 2.0),
    Demand("CPU a request, of vllm-router's", lambda r, s: r.ratio(s, ROUTER, CLOSED), 0.5),
    Demand("requests/s on one core", lambda r, s: figure(r.of(s, CLOSED, _requests).values()), 35_000, 0, least=True),
    Demand("added p50 at 1000 requests/s, ms", lambda r, s: r.added(s, PACED, _p50), 0.2),
    Demand("CPU an event, of nginx's", lambda r, s: r.ratio(s, NGINX, STREAMS), 1.5),
    Demand("CPU an event, of vllm-router's", lambda r, s: r.ratio(s, ROUTER, STREAMS), 0.9),
    Demand("events/s carried", lambda r, s: figure(r.of(s, STREAMS, _events).values()), 51_000, 0, least=True),
    Demand("added p99 of an event then, ms", lambda r, s: r.added(s, STREAMS, _p99), 1.0),
    Demand("added time to first event p50, of vllm-router's", _ttft_ratio, 0.5),
    Demand("memory, MB a worker", lambda r, s: _scaled(r.peak_bytes(s, lambda each: each.largest_bytes), 1e-6), 80, 0),
)


def _scaled(found: Figure, factor: float) -> Figure:
    return Figure(found.middle * factor, found.low * factor, found.high * factor, found.of)


def comparison_table(readings: Readings) -> str:
    """Return one line a subject."""
    head = (
        "CPU us a request", "requests/s", "added p50 ms", "added p99 ms",
        "CPU us an event", "events/s", "event added p99 ms", "first event added p50 ms", "memory MB",
    )  # fmt: skip
    rows = []
    for name in readings.subjects():
        cells = (
            figure(readings.of(name, CLOSED, _cpu).values()).shown(1),
            figure(readings.of(name, CLOSED, _requests).values()).shown(),
            readings.added(name, PACED, _p50).shown(2),
            readings.added(name, PACED, _p99).shown(2),
            figure(readings.of(name, STREAMS, _cpu).values()).shown(1),
            figure(readings.of(name, STREAMS, _events).values()).shown(),
            readings.added(name, STREAMS, _p99).shown(2),
            readings.added(name, FIRST_EVENT, _first_event).shown(2),
            _scaled(readings.peak_bytes(name, _memory), 1e-6).shown(),
        )
        if name == DIRECT:  # it has no process of its own
            cells = ("", cells[1], "", "", "", cells[5], "", "", "")
        rows.append((name, *cells))
    return table(("gateway", *head), rows)


def demands_table(readings: Readings, subject: str) -> str:
    lines = [f"| {subject} | demanded | measured | |", "|---|---|---|---|"]
    return "\n".join((*lines, *(demand.line(readings, subject) for demand in DEMANDS)))


def cost_table(readings: Readings, what: str) -> str:
    """Return CPU a request and an event, and memory, one line a subject."""
    rows = [
        (
            name,
            figure(readings.of(name, CLOSED, _cpu).values()).shown(1),
            figure(readings.of(name, STREAMS, _cpu).values()).shown(1),
            _scaled(readings.peak_bytes(name, _memory), 1e-6).shown(),
        )
        for name in readings.subjects()
    ]
    return table((what, "CPU us a request", "CPU us an event", "memory MB"), rows)


def points_table(readings: Readings, what: str) -> str:
    """Return CPU time, one line an experiment, one column a subject; what failed is beside the figure."""

    def cell(name: str, point: str) -> str:
        failed = sum(readings.of(name, point, lambda each: each.errors).values())
        text = figure(readings.of(name, point, _cpu).values()).shown(1)
        return f"{text}, {failed:,.0f} FAILED" if failed else text

    names = readings.subjects()
    points = dict.fromkeys(each.experiment for each in readings.all)
    return table((what, *names), [(point, *(cell(name, point) for name in names)) for point in points])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    if len(lines) == 2:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def limits(readings: Readings) -> list[str]:
    """Return one line for each subject that was not the limit under the load that should make it that."""
    shares = {
        name: figure(readings.of(name, CLOSED, lambda each: each.core_share).values())
        for name in readings.subjects()
        if name != DIRECT
    }
    return [
        f"{name}: {share.middle:.0%} of its core used: the client, or other programs, set the limit of requests/s"
        for name, share in shares.items()
        if share.of and share.middle < _BUSY
    ]


def complaints(readings: Readings) -> list[str]:
    """Return one line for each subject and load with errors: its figures are then of something else."""
    wrong = sorted((each for each in readings.all if each.errors), key=lambda each: (each.subject, each.experiment))
    lines = []
    for (subject, experiment), group in groupby(wrong, key=lambda each: (each.subject, each.experiment)):
        members = list(group)
        count = sum(each.errors for each in members)
        lines.append(f"{subject}, {experiment}: {count} errors; {members[0].first_error or 'answers that did not end'}")
    return lines
