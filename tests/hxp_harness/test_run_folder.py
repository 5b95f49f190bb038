"""A run's folder is new, writable and easy to find."""

from pathlib import Path

import pytest

from hxp_harness.errors import UsageError
from hxp_harness.run_folder import make_run_folder


def test_the_newest_run_is_called_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """reports/latest points at the newest run, run after run."""
    monkeypatch.chdir(tmp_path)
    first = make_run_folder(None, "first")
    second = make_run_folder(None, "second")

    assert first != second
    assert (tmp_path / "reports" / "latest").resolve() == second
    assert list(second.iterdir()) == []


def test_a_folder_of_ones_own_leaves_latest_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--out takes the folder that the user names, with its parents."""
    monkeypatch.chdir(tmp_path)

    assert make_run_folder(tmp_path / "a" / "b", "x") == tmp_path / "a" / "b"
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("name", ["run.json", "traces.part"])
def test_a_run_is_never_overwritten(tmp_path: Path, name: str) -> None:
    """A folder that holds a run is refused, with what to type instead."""
    (tmp_path / name).write_text("{}")

    with pytest.raises(UsageError, match="holds a run already") as caught:
        make_run_folder(tmp_path, "x")
    assert "hxp judge" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A path below a file cannot be a folder, and the refusal names it."""
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="cannot write to") as caught:
        make_run_folder(tmp_path / "file" / "run", "x")
    assert "--out" in caught.value.hint
