"""The canary: fixed questions asked idle, under load and idle again, so that speed bought with wrong answers shows.

Temperature 0 and few tokens. They are at most one request in two hundred, so that they change no figure, and a run too
short for LEAST of them has none.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hxp_harness.load.plan import Due
from hxp_harness.probe import Probe
from hxp_harness.target import Target
from hxp_harness.trace import Trace

ONE_IN = 200  # requests
LEAST = 8
OUTPUT_TOKENS = 8
SPREAD = 0.9  # of the load: the last question comes before its end
QUESTIONS = (
    "Name the capital of France.",
    "Count from one to eight.",
    "Name the days of the week.",
    "What is seven times six?",
    "Spell the word energy.",
    "Name four colours.",
    "What is the opposite of cold?",
    "Name the largest ocean.",
    "List the first five letters.",
    "What freezes at zero degrees?",
    "Name three kinds of trees.",
    "How many legs has a spider?",
    "Translate water into French.",
    "Name the planet we live on.",
    "What comes after Monday?",
    "Name an animal that flies.",
)


@dataclass(slots=True)
class Canary:
    """Answers by question, None where none came: what canary.json holds."""

    questions: int
    idle: list[str | None] = field(default_factory=list)
    loaded: list[str | None] = field(default_factory=list)
    loaded_at_s: list[float] = field(default_factory=list)  # when they were asked, on the monotonic clock
    after: list[str | None] = field(default_factory=list)


def planned(schedule: Sequence[Due]) -> Canary:
    """Return a canary of as many questions as the load is long enough for; 0 where it is too short for any."""
    count = min(len(QUESTIONS), sum(due.replicate >= 0 for due in schedule) // ONE_IN)
    return Canary(count if count >= LEAST else 0)


def ask_idle(canary: Canary, target: Target, *, timeout_s: float) -> list[str | None]:
    """Return the answers of a target that has nothing else to do, up to the first that does not come."""
    answers: list[str | None] = []
    with Probe(target, timeout_s=timeout_s) as probe:
        while len(answers) < canary.questions and None not in answers:
            answers.append(_answer(probe, len(answers)))
    return answers


@contextlib.contextmanager
def asked_under_load(
    canary: Canary, target: Target, schedule: Sequence[Due], *, timeout_s: float
) -> Iterator[Callable[[Sequence[Trace]], None]]:
    """Ask the questions one by one while the context lasts, spread over the time of the load.

    Yields what is to be called with the traces as they come in: the first measured one says that the load is on, since
    its processes take a while to start.
    """
    times_s = [due.intended_s for due in schedule if due.replicate >= 0]
    step_s = SPREAD * (times_s[-1] - times_s[0]) / canary.questions if canary.questions else 0.0
    begun, over = threading.Event(), threading.Event()

    def ask() -> None:
        begun.wait()
        with Probe(target, timeout_s=timeout_s) as probe:
            while len(canary.loaded) < canary.questions and not over.is_set():
                canary.loaded_at_s.append(time.monotonic())
                canary.loaded.append(_answer(probe, len(canary.loaded)))
                over.wait(step_s)

    def see(traces: Sequence[Trace]) -> None:
        if any(trace.replicate >= 0 for trace in traces):
            begun.set()

    thread = threading.Thread(target=ask, name="canary", daemon=True)
    if canary.questions:
        thread.start()
    try:
        yield see
    finally:
        over.set()
        begun.set()
        if thread.is_alive():
            thread.join(timeout_s)


def forget_outside(canary: Canary, schedule: Sequence[Due], t0_monotonic_s: float) -> None:
    """Drop answers to what was asked before or after the load: on a busy machine a question can come late."""
    times_s = [due.intended_s + t0_monotonic_s for due in schedule if due.replicate >= 0]
    for number, at_s in enumerate(canary.loaded_at_s[: len(canary.loaded)]):
        if not times_s[0] <= at_s <= times_s[-1]:
            canary.loaded[number] = None


def _answer(probe: Probe, number: int) -> str | None:
    reply = probe.complete(QUESTIONS[number], max_tokens=OUTPUT_TOKENS, temperature=0)
    return reply.text if reply.ok else None
