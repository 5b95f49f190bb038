"""Memory cgroups of our own, version 1 or 2: where they can be made, made, read and removed.

Each is called hxp-PID-CREATED-..., after the supervisor that made it, so that whoever comes next knows which ones were
left behind by a supervisor that was killed.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reference_stack.orchestration.state import StackState

_OURS = re.compile(r"hxp-(\d+)-(\d+\.\d+)-.*")
# Where the kernel counts that it killed a process of the group for its memory.
_KILLS = {1: "memory.oom_control", 2: "memory.events"}


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A folder in which a memory cgroup may be made, and the version whose files it has."""

    folder: Path
    version: int

    def make(self, name: str, supervisor: StackState, memory_bytes: int) -> Path:
        """Return a new cgroup whose processes have `memory_bytes` together, swap included; raises OSError."""
        prefix = f"hxp-{supervisor.pid}-{supervisor.created:.2f}-{name}-"
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder))
        try:
            self._limit(made, str(memory_bytes))
        except OSError:
            made.rmdir()
            raise
        return made

    def _limit(self, cgroup: Path, memory_bytes: str) -> None:
        if self.version == 1:
            (cgroup / "memory.limit_in_bytes").write_text(memory_bytes, encoding="ascii")
            with contextlib.suppress(OSError):  # there only where the kernel counts swap
                (cgroup / "memory.memsw.limit_in_bytes").write_text(memory_bytes, encoding="ascii")
            return
        (cgroup / "memory.max").write_text(memory_bytes, encoding="ascii")
        # A server without its engine is of no use: they go together. Neither file is there in every kernel.
        for file, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            with contextlib.suppress(OSError):
                (cgroup / file).write_text(value, encoding="ascii")

    def kills(self, cgroup: Path) -> int:
        """Return how many processes of `cgroup` the kernel killed because of its limit."""
        with contextlib.suppress(OSError):
            text = (cgroup / _KILLS[self.version]).read_text(encoding="ascii")
            found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
            return int(found[1]) if found else 0
        return 0

    def sweep(self) -> None:
        """Remove what supervisors that are gone left behind; a cgroup that still has processes stays."""
        for cgroup in self.folder.glob("hxp-*"):
            named = _OURS.fullmatch(cgroup.name)
            if named and not StackState(int(named[1]), float(named[2])).alive:
                remove(cgroup)


def remove(cgroup: Path) -> bool:
    """Remove `cgroup`; say whether it is gone. It is not while a process of it is still dying."""
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def find(proc: Path = Path("/proc/self")) -> Hierarchy | None:
    """Return the first hierarchy that lets us make a cgroup and put a process into it, tried out; None: there is none.

    In order: below our own cgroup of version 1; of version 2, below our own, then beside it, since with version 2 a
    cgroup that has processes gives no memory to cgroups below it.
    """
    try:
        mounts, cgroups = ((proc / file).read_text(encoding="utf-8") for file in ("mountinfo", "cgroup"))
    except OSError:
        return None
    return next((each for each in candidates(mounts, cgroups) if _works(each)), None)


def candidates(mountinfo: str, cgroups: str) -> Iterator[Hierarchy]:
    """Yield where a cgroup could be made, from the text of /proc/self/mountinfo and /proc/self/cgroup."""
    ours = {controllers: path for _, controllers, path in (line.split(":", 2) for line in cgroups.splitlines())}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, mount = before.split()[3:5]
        kind, _, options = (*after.split(), "", "")[:3]
        if kind == "cgroup" and "memory" in options.split(","):
            path = next((path for names, path in ours.items() if "memory" in names.split(",")), None)
            if path is not None:
                yield Hierarchy(_below(mount, root, path), 1)
        elif kind == "cgroup2" and "" in ours:
            own = _below(mount, root, ours[""])
            yield Hierarchy(own, 2)
            if own != Path(mount):
                yield Hierarchy(own.parent, 2)


def _below(mount: str, root: str, path: str) -> Path:
    """Return where cgroup `path` is found under a mount that shows the hierarchy from `root` on."""
    inside = path.removeprefix(root) if root != "/" and path.startswith(root) else path
    return Path(mount) / inside.lstrip("/")


def _works(hierarchy: Hierarchy) -> bool:
    try:
        cgroup = hierarchy.make("trial", StackState(0, 0.0), 2**40)
    except OSError:
        return False
    try:
        enter = ["sh", "-c", 'echo 0 > "$1"/cgroup.procs', "sh", str(cgroup)]
        return subprocess.run(enter, stderr=subprocess.DEVNULL, check=False).returncode == 0
    finally:
        remove(cgroup)
