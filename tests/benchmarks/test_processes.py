from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.gateway.processes import cpu_s, memory_bytes, tree
from benchmarks.gateway.programs import on_cores

_PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, flush=True)
child.wait()
time.sleep(60)
"""
_CHILD = """
import time
held = b"x" * 50_000_000
end = time.process_time() + 0.3
while time.process_time() < end: pass
"""


def test_a_tree_is_measured_whole() -> None:
    """CPU time and memory are those of a process and its children, of ended ones too what they took."""
    with subprocess.Popen([sys.executable, "-c", _PARENT, _CHILD], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        deadline_s = time.monotonic() + 20
        seen, most_bytes = [parent.pid], 0
        while len(tree(parent.pid)) > 1 and time.monotonic() < deadline_s:
            seen, most_bytes = tree(parent.pid), max(most_bytes, memory_bytes(parent.pid))
        took_s = cpu_s(parent.pid)
        parent.kill()
    assert seen == [parent.pid, child]
    assert most_bytes > 50_000_000
    assert 0.3 <= took_s < 2.0
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
