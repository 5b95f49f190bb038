"""Commands in the pages can be typed: the programs and sessions take them as they stand."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import hxp_harness.arguments
import reference_stack.arguments

_BLOCK = re.compile(r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CONTINUED = re.compile(r"\\\n\s*")
_PROGRAMS = {"hxp": hxp_harness.arguments.parser(), "hxp-stack": reference_stack.arguments.parser()}


def _lines(text: str) -> Iterator[str]:
    for block in _BLOCK.finditer(text):
        if block["language"] not in {"", "sh", "console"}:
            continue
        for line in _CONTINUED.sub(" ", block["text"]).splitlines():
            yield line.removeprefix("$ ").strip()


def _commands(text: str) -> Iterator[list[str]]:
    """Yield what our own programs are given, whichever way they are called."""
    for line in _lines(text):
        if line.startswith(("#", "ExecStart")):
            continue
        for part in re.split(r"\s(?:&&|\|\||\|)\s", line.removesuffix("; done")):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            if not words:
                continue
            if words[:4] == ["./nox", "-s", "perf", "--"]:
                yield ["hxp", "perf", *words[4:]]
            elif words[:3] == ["python", "-m", "hxp_harness"]:
                yield ["hxp", *words[3:]]
            elif Path(words[0]).name in _PROGRAMS:
                yield [Path(words[0]).name, *words[1:]]


def _accepts(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    try:
        parser.parse_args(words)
    except SystemExit as ended:
        return ended.code == 0
    return True


def test_every_command_in_the_pages_is_accepted(pages: dict[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is copied from a page is one that its program takes."""
    found = [(page.name, words) for page, text in pages.items() for words in _commands(text)]
    refused = [(page, *words) for page, words in found if not _accepts(_PROGRAMS[words[0]], words[1:])]

    assert len(found) > 30
    assert refused == [], capsys.readouterr().err


def test_every_session_in_the_pages_exists(root: Path, pages: dict[Path, str]) -> None:
    """A session that a page names is in the noxfile, or the page calls it planned."""
    noxfile = (root / "noxfile.py").read_text(encoding="utf-8")
    sessions = set(re.findall(r"^@nox\.session\ndef (\w+)", noxfile, re.MULTILINE))
    named = {name for text in pages.values() for name in re.findall(r"nox -s (\w+)", text)}

    assert named > {"perf", "component"}
    assert named - sessions <= {"selfcheck"}  # issue 5
