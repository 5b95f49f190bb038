"""What the page on fixtures shows works as it stands there, in an empty project."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_PYTHON = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_run_in_an_empty_project(root: Path, tmp_path: Path) -> None:
    """The tests of the page pass elsewhere, with nothing configured.

    Left out are those that need a client of the reader's own, and those on all twelve services, which
    `nox -s integration` starts.
    """
    text = (root / "docs" / "how-to" / "fixtures.md").read_text(encoding="utf-8")
    codes = [match["code"] for match in _PYTHON.finditer(text)]
    shown = [code for code in codes if "my_client(" not in code and "(stack)" not in code]
    for number, code in enumerate(shown):
        (tmp_path / f"test_shown_{number}.py").write_text(code, encoding="utf-8")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]

    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert len(shown) == 3
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
