"""Mutants of a stored run: a sound run of `hxp perf`, one of its files changed, and what `hxp judge` says of it.

Only the session `mutants` has them: the run takes a quarter of a minute.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hxp_harness.evidence import CERTIFICATE_AFTER, END, PROFILE, RECORD, SERVER, TRACES
from tests.hxp_harness.run.conftest import run_program, write_profile
from tests.mutants.mutant import Mutant, Workshop
from tests.mutants.wire import KEY_VARIABLE

Tree = dict[str, Any]
Forge = Callable[[Path], None]
LOAD = "load.done.json"


def _sound(workshop: Workshop) -> Path:
    """Run `hxp perf` on the sound server; once for all mutants."""
    if "run" not in workshop.kept:
        folder = workshop.folder / "perf"
        folder.mkdir()
        profile = str(write_profile(folder, rate=20))
        with workshop.front(None) as target:
            at = ("--target", target.base_url, "--api-model", target.api_model, "--api-key-env", KEY_VARIABLE)
            page = ("--metrics-url", target.metrics_url, "--out", str(folder / "run"))
            done = run_program(folder, "perf", "--profile", profile, *at, *page)
        if done.code:
            raise RuntimeError(f"the sound run ended with {done.code}: {done.out}{done.err}")
        workshop.kept["run"] = done.folder
    found: Path = workshop.kept["run"]
    return found


def _mutant(name: str, check: str, how: str, forge: Forge, *, verify: bool = False) -> Mutant:
    """The check is one of `hxp judge`, or with `verify` what `--verify` says of a file."""

    def trial(workshop: Workshop, broken: bool) -> str:
        folder = workshop.folder / "forged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_sound(workshop), folder)
        if broken:
            forge(folder)
        done = run_program(workshop.folder, "judge", str(folder), *(["--verify"] if verify else []))
        # Of a failed check the table's line, of a changed file the sentence; either names what has to catch it.
        lines = (done.out + done.err).replace(str(folder), "RUN").splitlines()
        told = [" ".join(line.split()) for line in lines if line.strip().startswith("failed") or " changed " in line]
        return "" if done.code == 0 else "; ".join(told) or done.out + done.err

    rule = "a sealed record" if verify else "a sound measurement"
    says = check if verify else f"failed {check}: "
    return Mutant(name, rule, "hxp judge --verify" if verify else f"hxp judge: {check}", how, trial, says)


def _in_json(name: str, change: Callable[[Tree], Tree]) -> Forge:
    def forge(folder: Path) -> None:
        tree: Tree = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(change(tree)), encoding="utf-8")

    return forge


def _counted(**change: Callable[[Tree, Tree], float]) -> Forge:
    """Change counters of the page after the run, by what both pages have."""

    def forge(tree: Tree) -> Tree:
        before, after = tree["before"], tree["after"]
        return {**tree, "after": after | {name: value(before, after) for name, value in change.items()}}

    return _in_json(SERVER, forge)


def _in_text(name: str, old: str, new: str) -> Forge:
    def forge(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        if old not in text:
            raise ValueError(f"{name} has no {old!r}")
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return forge


def _one_byte(folder: Path) -> None:
    content = bytearray((folder / TRACES).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / TRACES).write_bytes(content)


def _newer(folder: Path) -> None:
    """A certificate of another machine, with the sound verdict on it."""
    _in_json(CERTIFICATE_AFTER, lambda tree: {**tree, "requests": tree["requests"] + 1})(folder)


RUNS = (
    _mutant(
        "clock jump", "clock steady", "half a second of difference between the clocks",
        _in_json(LOAD, lambda tree: {**tree, "clock_step_s": 0.5}),
    ),
    _mutant(
        "requests that left no trace", "every request traced", "ten more were due",
        _in_json(LOAD, lambda tree: {**tree, "due": tree["due"] + 10}),
    ),
    _mutant(
        "certificate thrown away", "certificate", "deletes the second one",
        lambda at: (at / CERTIFICATE_AFTER).unlink(),
    ),
    _mutant(
        "certificate of a broken instrument", "certificate", "says that it failed",
        _in_json(CERTIFICATE_AFTER, lambda tree: {**tree, "ok": False, "reasons": ["e2e is off by up to 9 ms"]}),
    ),
    _mutant(
        "restart in mid-run", "server not restarted", "the page says another start",
        _counted(process_start_s=lambda _, after: after["process_start_s"] + 60),
    ),
    _mutant(
        "counters going backwards", "server not restarted", "generated tokens end below where they began",
        _counted(generation_tokens=lambda before, _: before["generation_tokens"] - 1),
    ),
    _mutant(
        "tokens that nobody generated", "tokens agree", "the page counts half of what usage says",
        _counted(generation_tokens=lambda one, two: (one["generation_tokens"] + two["generation_tokens"]) / 2),
    ),
    _mutant(
        "prompts from the cache", "prefix cache", "all prefix tokens that were looked up are hits",
        _counted(prefix_hits=lambda one, two: one["prefix_hits"] + two["prefix_queries"] - one["prefix_queries"]),
    ),
    _mutant(
        "another contract than was measured", "output length", "asks for 4 tokens where 8 were measured",
        _in_text(PROFILE, "output_tokens: 8", "output_tokens: 4"),
    ),
    _mutant("run without its end", "not interrupted", "deletes what says how it ended", lambda at: (at / END).unlink()),
    _mutant(
        "record changed after the fact", f"{RECORD} was changed", "puts another name into the record",
        _in_text(RECORD, "small", "large"), verify=True,
    ),
    _mutant("trace changed after the fact", f"{TRACES} was changed", "turns one bit", _one_byte, verify=True),
    _mutant(
        "certificate exchanged", f"{CERTIFICATE_AFTER} was changed", "puts another in its place", _newer, verify=True
    ),
)  # fmt: skip
