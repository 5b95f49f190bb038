"""A process that has everything imported and forks the services of a stack: each starts in a fraction of the time.

Runs as `python -m reference_stack.orchestration.nursery FD`. FD is a SOCK_SEQPACKET socket: each packet asks for one
service (JSON, with its listening socket and its log as descriptors); the answers are its pid and, later, how it ended.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from reference_stack.errors import StackError

LARGEST_PACKET = 65536
_PR_SET_NAME = 15
_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> int:
    """Fork services as asked until the other end of the socket is gone; a forked one ends in here."""
    requests = socket.socket(fileno=descriptor)
    _import_what_all_need()
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    _report_end(requests, selector, key)
                    continue
                packet, descriptors, _, _ = socket.recv_fds(requests, LARGEST_PACKET, 2)
                if not packet:
                    return 0
                service = _fork(requests, selector, json.loads(packet), *descriptors)
                if service is not None:
                    _leave(service())


def _import_what_all_need() -> None:
    import fastapi  # noqa: F401 - for those who are forked
    import uvloop  # noqa: F401 - likewise

    import reference_stack.face
    import reference_stack.serve  # noqa: F401 - likewise

    gc.collect()
    gc.freeze()  # the collector of a child then leaves the shared pages alone


def _fork(
    requests: socket.socket, selector: selectors.BaseSelector, wanted: dict[str, Any], listening: int, log: int
) -> Callable[[], int] | None:
    """Fork: in the nursery answer with the pid and return None, in the child return the service to run."""
    nursery = os.getpid()
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
        return lambda: _serve(wanted["name"], Path(wanted["settings"]), listening)
    # Both sides set it: whoever asks for the group next finds it set.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    os.close(listening)
    os.close(log)
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


def _serve(name: str, settings: Path, listening: int) -> int:
    from reference_stack.serve import serve_file

    try:
        serve_file(name, settings, fd=listening)
    except StackError as error:
        print(f"hxp-stack: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as end:  # how `serve` ends when it is told to
        return int(end.code or 0)
    return 0


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
    sys.exit(main(int(sys.argv[1])))
