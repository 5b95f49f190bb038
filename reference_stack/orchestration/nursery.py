"""A process that has everything imported and forks servers: each starts in a fraction of the time.

Runs as `python -P nursery.py FD TRADE`. FD is a SOCK_SEQPACKET socket: each packet asks for one server (JSON, with
descriptors: first its log, then what it may need); the answers are its pid and, later, how it ended. TRADE is a Python
file that knows what its servers need: `prepare()` imports it, `serve(wanted, descriptors)` is a server and returns its
exit code. Imports nothing but the standard library, so that it runs in any environment.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

LARGEST_PACKET = 65536
_DESCRIPTORS = 2
_PR_SET_NAME = 15
_PR_SET_PDEATHSIG = 1

Serve = Callable[[dict[str, Any], Sequence[int]], int]


def main(descriptor: int, trade: str) -> int:
    """Fork servers as asked until the other end of the socket is gone; a forked one ends in here."""
    requests = socket.socket(fileno=descriptor)
    known = runpy.run_path(trade)
    known["prepare"]()
    gc.collect()
    gc.freeze()  # the collector of a child then leaves the shared pages alone
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    _report_end(requests, selector, key)
                    continue
                packet, descriptors, _, _ = socket.recv_fds(requests, LARGEST_PACKET, _DESCRIPTORS)
                if not packet:
                    return 0
                server = _fork(requests, selector, known["serve"], json.loads(packet), descriptors)
                if server is not None:
                    _leave(_run(server))


def _fork(
    requests: socket.socket,
    selector: selectors.BaseSelector,
    serve: Serve,
    wanted: dict[str, Any],
    descriptors: Sequence[int],
) -> Callable[[], int] | None:
    """Fork: in the nursery answer with the pid and return None, in the child return the server to run."""
    nursery = os.getpid()
    log, *others = descriptors
    pid = os.fork()
    if pid == 0:
        _die_with(nursery)
        os.setpgid(0, 0)
        for key in list(selector.get_map().values()):
            if key.fileobj is not requests:
                os.close(key.fd)
        requests.close()
        _become(wanted["name"], log)
        _obey(**wanted["hold"])
        return lambda: serve(wanted, others)
    # Both sides set it: whoever asks for the group next finds it set.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    for each in descriptors:
        os.close(each)
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
    requests.send(json.dumps({"name": wanted["name"], "pid": pid}).encode())
    return None


def _die_with(parent: int) -> None:
    """Let the kernel kill us when `parent` is gone; it may have gone before we could ask."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _become(name: str, log: int) -> None:
    """Give the child its own name in `ps` and its own output."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"hxp-{name}".encode()[:15], 0, 0, 0)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def _obey(cores: list[int], cgroup: str, data_bytes: int) -> None:
    """Hold this process to its limits; what cannot be put into force ends it, with the error in its log."""
    if cores:
        os.sched_setaffinity(0, cores)
    if cgroup:
        (Path(cgroup) / "cgroup.procs").write_text("0", encoding="ascii")
    if data_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))


def _run(server: Callable[[], int]) -> int:
    """Return the exit code of `server`, as the interpreter would have it."""
    try:
        return server()
    except SystemExit as end:  # how a server ends when it is told to
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the last line of this process: its log is where it belongs
        traceback.print_exc()
        return 1


def _leave(code: int) -> NoReturn:
    """End as a forked process should: what was registered is done, and nothing that the parent shares is torn down."""
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no public way to end with these and without the rest
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _report_end(requests: socket.socket, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    selector.unregister(key.fileobj)
    os.close(key.fd)
    pid, status = os.waitpid(key.data, 0)
    with contextlib.suppress(OSError):
        requests.send(json.dumps({"pid": pid, "ended": os.waitstatus_to_exitcode(status)}).encode())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave(main(int(sys.argv[1]), sys.argv[2]))  # all that it has imported need not be taken apart
