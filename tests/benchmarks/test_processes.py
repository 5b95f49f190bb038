from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.gateway.processes import cpu_s, largest_bytes, memory_bytes, tree
from benchmarks.gateway.programs import on_cores

_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
child.wait()
print("ended", flush=True)
sys.stdin.read()
"""
_CHILD = """
import os, sys, time
held = b"x" * 50_000_000
end = time.process_time() + 0.3
while time.process_time() < end: pass
print(os.getpid(), flush=True)
sys.stdin.readline()
"""


def test_a_tree_is_measured_whole() -> None:
    """CPU time and memory are those of a process and its children, of ended ones too what they took."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _PARENT, _CHILD], stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        alive = (tree(parent.pid), cpu_s(parent.pid), memory_bytes(parent.pid))
        largest = largest_bytes(parent.pid)
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "ended\n"
        after = (tree(parent.pid), cpu_s(parent.pid), memory_bytes(parent.pid))
    assert (alive[0], after[0]) == ([parent.pid, child], [parent.pid])
    assert 0.3 <= alive[1] <= after[1] < 3.0
    assert alive[2] > largest > 50_000_000 > after[2]
    assert (cpu_s(parent.pid), memory_bytes(parent.pid)) == (0.0, 0)


def test_children_are_started_on_their_core() -> None:
    """A child started meanwhile may use the cores named, and this process all of its own afterwards."""
    before = os.sched_getaffinity(0)
    with on_cores(frozenset({max(before)})):
        shown = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert shown.stdout.strip() == str({max(before)})
    assert os.sched_getaffinity(0) == before
