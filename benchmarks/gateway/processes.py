"""What a gateway's processes took: CPU time and memory of the whole tree, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return `pid` and all its living descendants."""
    found = [pid]
    for parent in found:  # grows meanwhile
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:  # ended since
                continue
    return found


def cpu_s(pid: int) -> float:
    """Return the user and system time that the tree of `pid` took, children that ended and were waited for included."""
    return sum(_ticks(each) for each in tree(pid)) * _TICK_S


def _ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # Behind the name, which may hold spaces: utime, stime, cutime and cstime are fields 14 to 17 of the line.
    return sum(int(ticks) for ticks in stat.rpartition(")")[2].split()[11:15])


def memory_bytes(pid: int) -> int:
    """Return the proportional memory (PSS) of the tree: shared pages count once, divided among who shares them."""
    return sum(_pss(each) for each in tree(pid))


def largest_bytes(pid: int) -> int:
    """Return the proportional memory of the largest process of the tree: of a parent and its workers, one worker."""
    return max(_pss(each) for each in tree(pid))


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
