"""What a person sees while a run lasts and when it ends: live in a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hxp_harness.load.plan import Due
from hxp_harness.report import words
from hxp_harness.report.progress import Glance, Goal, Progress
from hxp_harness.report.record import Record
from hxp_harness.report.text import one_line
from hxp_harness.target import Evidence
from hxp_harness.trace import Trace
from hxp_harness.units import format_quantity

REFRESH_S = 0.25
QUIET_LINES = 16  # at most so many lines about replicates where nobody watches
QUIET_WIDTH = 118

COLOURS = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow", "INVALID": "bold magenta"}
_SHOWN_METRICS = ("e2e", "ttft", "tpot", "itl", "error_rate", "goodput", "throughput", "send_lag")


class Screen:
    """Progress on `stream` (stderr), the result on `out` (stdout). A context manager; every method is cheap.

    Where `stream` is no terminal, or a dumb one, phases become single plain lines, a bounded number in all.
    """

    def __init__(
        self,
        title: str,
        goal: Goal,
        *,
        stream: TextIO | None = None,
        out: TextIO | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._goal, self._clock = one_line(title), goal, clock
        self._console = _console(stream or sys.stderr, environ)
        self._out = _console(out or sys.stdout, environ)
        self._live: Live | None = None
        self._progress: Progress | None = None
        self._phase, self._drawn_s, self._said = "", -math.inf, -1
        self._quiet = not self._console.is_terminal or self._console.is_dumb_terminal

    def __enter__(self) -> Self:
        if not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, phase: str) -> None:
        """Name what is going on from here on; ends the showing of a load."""
        self._phase, self._progress = one_line(phase), None
        self._draw(force=True)
        if self._quiet:
            self._print(self._phase)

    def load(self, schedule: Sequence[Due]) -> None:
        """Begin to show the load of `schedule`."""
        self.say("load")
        self._progress, self._said = Progress(schedule, self._goal), -1

    def see(self, traces: Sequence[Trace]) -> None:
        """Take traces that have ended; call it often, it draws a few times a second."""
        if self._progress is None:
            return
        self._progress.add(traces, self._clock())
        if self._quiet:
            self._say_replicate(self._progress.glance(self._clock()))
        else:
            self._draw()

    def end(self, record: Record, folder: Path) -> None:
        """Take the progress away and print the result."""
        self.__exit__()
        self._out.print(result(record, folder), end="")

    def _draw(self, *, force: bool = False) -> None:
        now_s = self._clock()
        if self._live is None or (now_s - self._drawn_s < REFRESH_S and not force):
            return
        self._drawn_s = now_s
        glance = self._progress.glance(now_s) if self._progress else None
        self._live.update(picture(self._title, self._phase, glance, self._goal), refresh=True)

    def _say_replicate(self, glance: Glance) -> None:
        step = max(math.ceil((glance.replicates + 1) / QUIET_LINES), 1)
        if glance.replicate > self._said and (glance.replicate == 0 or glance.replicate >= self._said + step):
            self._said = glance.replicate
            self._print(f"{stage(glance)}: {figures(glance, self._goal)}")

    def _print(self, line: str) -> None:
        self._console.print(Text(f"hxp: {line}"), soft_wrap=True)


def _console(stream: TextIO, environ: Mapping[str, str]) -> Console:
    console = Console(file=stream, no_color=bool(environ.get("NO_COLOR")), highlight=False, _environ=environ)
    return console if console.is_terminal else Console(file=stream, no_color=True, highlight=False, width=QUIET_WIDTH)


def stage(glance: Glance) -> str:
    return "warm-up" if glance.replicate < 0 else f"replicate {glance.replicate + 1} of {glance.replicates}"


def figures(glance: Glance, goal: Goal) -> str:
    """Return the moment in one line."""
    limit = "" if goal.limit_s is None else f" (limit {format_quantity(goal.limit_s, 'time')})"
    return (
        f"{glance.achieved_rps:.1f} of {glance.offered_rps:.1f} rps, "
        f"{goal.name} so far {_time(glance.statistic_s)}{limit}, "
        f"errors {glance.errors}, in flight {glance.in_flight}, {_clock_face(glance.left_s)} left"
    )


def picture(title: str, phase: str, glance: Glance | None, goal: Goal) -> Group:
    """Return what a terminal shows at one moment."""
    head = Text.assemble((title, "bold"), "  ", (stage(glance) if glance else phase, "cyan"))
    if glance is None:
        return Group(head)
    late = goal.limit_s is not None and glance.statistic_s is not None and glance.statistic_s > goal.limit_s
    limit = "" if goal.limit_s is None else f" / {format_quantity(goal.limit_s, 'time')}"
    cells = Table.grid(padding=(0, 3))
    cells.add_row(
        "rate achieved / offered",
        f"{goal.name} so far{' / limit' if limit else ''}",
        "errors",
        "in flight",
        "time left",
    )
    cells.add_row(
        Text(f"{glance.achieved_rps:.1f} / {glance.offered_rps:.1f} rps"),
        Text(f"{_time(glance.statistic_s)}{limit}", style="red" if late else "green"),
        Text(str(glance.errors), style="red" if glance.errors else ""),
        Text(str(glance.in_flight)),
        Text(_clock_face(glance.left_s)),
    )
    bar = Table.grid()  # a bar by itself ends without a new line
    bar.add_row(ProgressBar(total=max(glance.planned, 1), completed=glance.measured, width=60))
    return Group(head, bar, cells)


def result(record: Record, folder: Path) -> Group:
    """Return the verdict, its gates and what stands behind it."""
    measured = record.evidence is Evidence.MEASURED
    parts: list[Text | Table] = [
        Text.assemble((record.verdict, COLOURS[record.verdict]), "  ", (words.title(record), "bold")),
        Text(words.headline(record)),
        Text(
            f"{words.evidence_label(record)}: {words.evidence(record)}",
            style="" if measured else "bold yellow",
        ),
        Text(),
    ]
    if record.gates:
        parts += [_gates(record), *_sentences(record), Text()]
    distrusted = [check for check in record.checks if check.outcome != "ok"]
    if distrusted:
        parts += [*(Text(f"{words.check_word(c)}: {c.name}. {one_line(c.sentence)}") for c in distrusted), Text()]
    if any(figures.n for figures in record.metrics.values()):
        parts += [_metrics(record), Text()]
    parts += [Text(f"report: {folder / 'report.html'}"), Text(f"record: {folder / 'run.json'}")]
    return Group(*parts, Text(f"why:    hxp explain {folder}"), Text(f"again:  hxp judge {folder}"))


def _gates(record: Record) -> Table:
    table = Table("gate", "outcome", "estimate", "99 % sure", "limit", "n", box=None, padding=(0, 2, 0, 0))
    for row in words.gate_rows(record):
        outcome = Text(row.outcome, style=COLOURS[row.outcome])
        table.add_row(Text(row.text), outcome, row.estimate, row.interval, row.limit, row.n)
    return table


def _sentences(record: Record) -> list[Text]:
    """Return what is said of the gates that do not hold, but for what the headline has said."""
    told = words.headline(record)
    rows = [
        (row.text, row.sentence.removeprefix(told).strip()) for row in words.gate_rows(record) if row.outcome != "PASS"
    ]
    return [Text(f"{gate}: {rest}") for gate, rest in rows if rest]


def _metrics(record: Record) -> Table:
    table = Table("metric", "mean", "p50", "p95", "p99", "n", box=None, padding=(0, 2, 0, 0))
    shown = {name: record.metrics[name] for name in _SHOWN_METRICS if name in record.metrics}
    for row in words.metric_rows(shown or dict(record.metrics)):
        table.add_row(Text(row.name), *row.cells, row.n)
    return table


def _time(seconds: float | None) -> str:
    if seconds is None:
        return words.UNKNOWN
    return "infinite" if math.isinf(seconds) else format_quantity(seconds, "time")


def _clock_face(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}:{rest:02}"
