"""The program itself, whatever the command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from reference_stack.__main__ import main


@pytest.mark.parametrize("words", [("metrics", "scrape"), ("config", "schema")])
def test_a_reader_that_has_seen_enough_is_no_error(words: tuple[str, ...]) -> None:
    """`hxp-stack ... | head` ends in silence, however much there was to say."""
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "reference_stack", *words]
    done = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("upp", "hxp-stack: argument COMMAND: invalid choice: 'upp'", "did you mean 'up'?"),
        ("up --evn local", "hxp-stack up: unrecognized arguments: --evn local", "did you mean '--env'?"),
        ("status --wach", "hxp-stack status: unrecognized arguments: --wach", "did you mean '--watch'?"),
        ("config shwo", "hxp-stack config: argument action: invalid choice: 'shwo'", "did you mean 'show'?"),
        ("config show --orgin", "hxp-stack config: unrecognized arguments: --orgin", "did you mean '--origin'?"),
        ("history serch x", "argument action: invalid choice: 'serch'", "did you mean 'search'?"),
        ("storage imprt", "argument action: invalid choice: 'imprt'", "did you mean 'import'?"),
        ("down --foldr x", "hxp-stack down: unrecognized arguments: --foldr x", "did you mean '--folder'?"),
        ("up --ports fre", "argument --ports: invalid choice: 'fre'", "did you mean 'free'?"),
        ("plan mixtral", "hxp-stack plan: unrecognized arguments: mixtral", "did you mean '--model mixtral'?"),
        ("up cache", "hxp-stack up: unrecognized arguments: cache", "did you mean '--only cache'?"),
        ("down stray", "unrecognized arguments: stray", "see hxp-stack down --help"),
        ("", "the following arguments are required: COMMAND", "see hxp-stack --help"),
    ],
)
def test_what_is_mistyped_is_named_with_what_is_right(
    words: str, said: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong word costs one look: two lines say what is wrong, and what to type."""
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(lines) == 2
    assert said in lines[0]
    assert hint in lines[1]
