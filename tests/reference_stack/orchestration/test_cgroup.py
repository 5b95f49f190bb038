"""Promises of the cgroups that we make: found where they work, with the limit in them, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reference_stack.orchestration import cgroup
from reference_stack.orchestration.cgroup import Hierarchy, candidates, find, remove
from reference_stack.orchestration.state import StackState

V1_MOUNT = "42 30 0:39 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
V2_MOUNT = "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
ELSE = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n33 1 0:30 / /c/cpu rw - cgroup cgroup rw,cpu\n"


def us() -> StackState:
    return StackState(os.getpid(), psutil.Process().create_time())


@pytest.mark.parametrize(
    ("mounts", "cgroups", "expected"),
    [
        (ELSE + V1_MOUNT, "4:memory:/a/b\n1:cpu:/\n0::/x\n", [("/sys/fs/cgroup/memory/a/b", 1)]),
        (ELSE + V2_MOUNT, "0::/user.slice/s.scope\n", [("user.slice/s.scope", 2), ("user.slice", 2)]),
        (V2_MOUNT, "0::/\n", [("", 2)]),
        (
            V1_MOUNT.replace(" / /sys", " /docker/1 /sys"),
            "3:cpuacct,memory:/docker/1/in\n",
            [("/sys/fs/cgroup/memory/in", 1)],
        ),
        (V1_MOUNT, "1:cpu:/\n", []),
        (ELSE, "4:memory:/a\n0::/x\n", []),
        ("", "", []),
    ],
)
def test_where_cgroups_could_be_made(mounts: str, cgroups: str, expected: list[tuple[str, int]]) -> None:
    """The places follow from the kernel's own tables, in version 2 also beside our own; elsewhere there are none."""
    found = [(each.folder, each.version) for each in candidates(mounts, cgroups)]
    assert found == [(Path("/sys/fs/cgroup") / path, version) for path, version in expected]


def test_version_2_gets_its_own_files(tmp_path: Path) -> None:
    """A cgroup of version 2 is told its maximum, to leave swap alone and to be killed whole."""
    made = Hierarchy(tmp_path, 2).make("phi3", us(), 4_000_000_000)
    said = {file.name: file.read_text() for file in made.iterdir()}
    assert said == {"memory.max": "4000000000", "memory.swap.max": "0", "memory.oom.group": "1"}
    (made / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert Hierarchy(tmp_path, 2).kills(made) == 2


@pytest.mark.parametrize("text", [None, "oom_kill_disable 0\n"])
def test_kills_that_are_not_counted_are_none(tmp_path: Path, text: str | None) -> None:
    """Where the kernel keeps no count there is no kill to tell of."""
    if text is not None:
        (tmp_path / "memory.oom_control").write_text(text)
    assert Hierarchy(tmp_path, 1).kills(tmp_path) == 0


def test_where_no_limit_can_be_written_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cgroup that takes no limit is removed again, and is an error."""
    refusing = Hierarchy(tmp_path, 1)
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    with pytest.raises(PermissionError):
        refusing.make("x", us(), 1)
    assert list(tmp_path.iterdir()) == []


def test_none_is_found_where_there_is_none(tmp_path: Path) -> None:
    """Without the kernel's tables, or with places that do not work, there is no hierarchy."""
    assert find(tmp_path) is None
    (tmp_path / "mountinfo").write_text(f"1 1 0:1 / {tmp_path}/none rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    assert find(tmp_path) is None


@pytest.fixture
def hierarchy() -> Iterator[Hierarchy]:
    """The machine's own."""
    found = find()
    if found is None:
        pytest.skip("no cgroup can be made here: that needs root, or a delegated cgroup")
    yield found
    found.sweep()


def test_only_what_dead_supervisors_left_is_swept(hierarchy: Hierarchy) -> None:
    """A sweep removes the empty cgroups of supervisors that are gone; those of living ones and used ones stay."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as passing:
        dead = StackState(passing.pid, psutil.Process(passing.pid).create_time())
    left, used, ours = (hierarchy.make(name, who, 2**30) for name, who in (("a", dead), ("b", dead), ("c", us())))
    enter = 'echo 0 > "$1"/cgroup.procs && echo in && exec cat'
    with subprocess.Popen(
        ["sh", "-c", enter, "sh", str(used)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as inside:
        assert inside.stdout is not None
        assert inside.stdout.readline() == b"in\n"
        hierarchy.sweep()
        assert [each.exists() for each in (left, used, ours)] == [False, True, True]
        inside.communicate()
    hierarchy.sweep()
    assert not used.exists()
    assert remove(ours)
    assert cgroup.remove(ours)  # gone already is gone
