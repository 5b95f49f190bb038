"""The program itself, whatever the command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("words", [("metrics", "scrape"), ("config", "schema")])
def test_a_reader_that_has_seen_enough_is_no_error(words: tuple[str, ...]) -> None:
    """`hxp-stack ... | head` ends in silence, however much there was to say."""
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "reference_stack", *words]
    done = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, b"")
