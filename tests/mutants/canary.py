"""Mutants that a run's fixed questions catch: asked idle, meanwhile and idle again, on real sockets."""

from __future__ import annotations

from hxp_harness.canary import QUESTIONS, Canary, ask_idle
from hxp_harness.gates.canary import CanaryAnswers, check_canary
from hxp_harness.gates.outcome import CheckOutcome
from tests.mutants.changes import Tree, in_bodies, in_question, one_late
from tests.mutants.middleman import Change
from tests.mutants.mutant import Mutant, Workshop


def _mutant(name: str, breaks: str, how: str, change: Change) -> Mutant:
    def trial(workshop: Workshop, broken: bool) -> str:
        with workshop.front(change if broken else None) as loaded:
            meanwhile = ask_idle(Canary(len(QUESTIONS)), loaded, timeout_s=30.0)
        check = check_canary(CanaryAnswers(_idle(workshop, "before"), meanwhile, _idle(workshop, "after")))
        return "" if check.outcome is CheckOutcome.OK else check.sentence

    return Mutant(name, breaks, "answers hold under load", how, trial, "the speed is bought with other answers")


def _idle(workshop: Workshop, when: str) -> list[str | None]:
    """Return what the sound server answers, asked once for all mutants."""
    if when not in workshop.kept:
        with workshop.front(None) as sound:
            workshop.kept[when] = ask_idle(Canary(len(QUESTIONS)), sound, timeout_s=30.0)
    found: list[str | None] = workshop.kept[when]
    return found


def _nonsense(tree: Tree) -> Tree:
    [choice] = tree["choices"]
    return {**tree, "choices": [{**choice, "message": {**choice["message"], "content": "cheap cheap"}}]}


CANARY = (
    _mutant("answers swapped between callers", "I3", "gives each the answer of the one before", one_late()),
    _mutant("wrong answers under load", "the contract", "says the same to everybody", in_bodies(_nonsense)),
    _mutant(
        "another, shorter prompt read under load", "the contract", "cuts each question to its first word",
        in_question(lambda tree: {**tree, "messages": [{"role": "user", "content": "Name"}]}),
    ),
)  # fmt: skip
