"""Facts about the machine and the installation."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from hxp_harness.report.hardware import UNKNOWN
from hxp_harness.report.manifest import environment, git_state, version_of


def test_every_fact_is_a_short_text() -> None:
    """What a run was made with is known, or said to be not known."""
    facts = environment()
    assert facts["python"] == platform.python_version()
    assert int(facts["cores"]) >= 1
    assert "numpy==" in facts["packages"]
    for fact in facts.values():
        assert 0 < len(fact) < 500


def test_a_changed_checkout_is_told_from_a_clean_one(tmp_path: Path) -> None:
    """The state of a checkout is its commit, marked where a file differs from it."""
    author = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    clean = git_state(tmp_path)
    (tmp_path / "new").write_text("x", encoding="utf-8")

    assert len(clean) == 40
    assert git_state(tmp_path) == f"{clean}+changes"


def test_what_is_not_there_is_said_to_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is no checkout, a machine without git, and a package that is not installed have no version."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == UNKNOWN
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Path(__file__).parent) == UNKNOWN
    assert version_of("no-such-package-anywhere") == UNKNOWN
