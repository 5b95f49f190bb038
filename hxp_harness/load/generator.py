"""The hot-loop process: `python -m hxp_harness.load.generator FOLDER [--part 1/2]`.

Reads load.json and schedule.jsonl of the folder and the key from HXP_API_KEY; appends to traces.part; ends with
load.done.json, or with load.error.json and exit status 1. SIGTERM, SIGINT and the end of standard input stop it early.

As one part of several it takes its share of the schedule, says "ready" on standard output, and begins when standard
input tells the t0 of all, in nanoseconds on the monotonic clock; it ends with load.done-1.json. Every part appends to
the same traces.part: whole lines, one write each time.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import select
import signal
import socket
import ssl
import stat
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import msgspec

from hxp_harness.load import tag_keys
from hxp_harness.load.client import Client, Request
from hxp_harness.load.connection import Address, Receipts
from hxp_harness.load.conversation import follow
from hxp_harness.load.folder import KEY_VARIABLE, LoadFolder
from hxp_harness.load.plan import Due, LoadPlan, LoadSummary
from hxp_harness.load.request import Renderer
from hxp_harness.load.schedule import read_schedule
from hxp_harness.load.split import deal, slots_of
from hxp_harness.load.stamps import WallOffset, stamping
from hxp_harness.load.stop_signals import STOP_SIGNALS, let_through
from hxp_harness.load.trace_file import TraceWriter

_LEAD_S = 0.1  # from the last preparation to t0
_PROBE_TIMEOUT_S = 5.0
_LOOK_S = 0.05  # how often a waiting part looks whether it was stopped
NICENESS = -10


def find_address(plan: LoadPlan) -> Address:
    """Resolve the target; of several addresses take the first that answers, else the first.

    Raises OSError when the name is unknown.
    """
    parts = urlsplit(plan.base_url)
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    found = [
        Address(family, sockaddr, host, tls)
        for family, _, _, _, sockaddr in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if isinstance(sockaddr[0], str)
    ]
    return next((address for address in found if len(found) == 1 or _answers(address)), found[0])


def _answers(address: Address) -> bool:
    with socket.socket(address.family, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        return probe.connect_ex(address.sockaddr) == 0


def render(renderer: Renderer, schedule: Iterable[Due]) -> list[Request]:
    """Return every request of the schedule, ready to send but for those that follow an answer."""
    return [(due, b"" if due.after >= 0 else renderer.request(due), renderer.request_id(due)) for due in schedule]


def go_first() -> None:
    """Ask to be scheduled before others: a client that waits for a core sends late. Ignored where it is not allowed."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def raise_descriptor_limit() -> None:
    """Allow as many open connections as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def peak_rss_bytes() -> int:
    """Return the most memory that this process had at once.

    Not getrusage's: that begins with what the process had from which this one was forked.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def find_lifeline() -> int | None:
    """Return standard input where it is a pipe, whose other end goes when the parent does."""
    try:
        return 0 if stat.S_ISFIFO(os.fstat(0).st_mode) else None
    except OSError:  # closed
        return None


def stamps_of(receipts: Receipts, *, tls: bool) -> str:
    """Return where arrival times come from; under TLS exact only where a read ends with a record."""
    if not receipts.kernel_reads or receipts.user_reads:
        return "user"
    return "kernel, at the ends of TLS records" if tls else "kernel"


def told_t0_ns(client: Client) -> int:
    """Say that this part is ready; return the t0 that standard input tells, or the present when it is to stop."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    line = b""
    while not client.stopped:
        if select.select([0], [], [], _LOOK_S)[0]:
            received = os.read(0, 64)
            line += received
            if line.endswith(b"\n"):
                return int(line)
            if not received:  # the other end is gone
                client.stop()
    return time.monotonic_ns()


def share_of(plan: LoadPlan, schedule: list[Due], number: int, parts: int) -> tuple[LoadPlan, list[Due]]:
    """Return what the client of this `number`, from 1, sends of a load that has so many `parts`."""
    own = deal(schedule, [1] * parts, plan.concurrency)[number - 1]
    return replace(plan, concurrency=slots_of(plan.concurrency, parts, number - 1)), own


def run(folder: LoadFolder, number: int = 1, parts: int = 0) -> LoadSummary:
    """Send the schedule of `folder` and return what the loop says of itself; `parts` 0: alone, and at once."""
    plan, schedule = share_of(folder.read_plan(), read_schedule(folder.schedule), number, max(parts, 1))
    raise_descriptor_limit()
    go_first()
    keys = tag_keys.read(plan.tag_keys, os.environ)
    renderer = Renderer(plan, os.environ.get(KEY_VARIABLE, ""), os.urandom(4).hex(), keys)
    requests = render(renderer, schedule)
    address = find_address(plan)
    receipts = Receipts(WallOffset())
    with stamping(), TraceWriter(folder.traces) as writer:
        client = Client(
            address,
            requests,
            receipts,
            plan=plan,
            on_trace=writer.add,
            on_idle=writer.flush,
            follow=partial(follow, renderer),
            lifeline=find_lifeline(),
        )

        def stop(_signal: int, _frame: FrameType | None) -> None:
            client.stop()

        for stopping in STOP_SIGNALS:
            signal.signal(stopping, stop)
        let_through()
        gc.collect()
        gc.freeze()
        gc.disable()
        t0_ns = told_t0_ns(client) if parts else time.monotonic_ns() + int(_LEAD_S * 1e9)
        t0_unix_s = (t0_ns + receipts.offset.ns) / 1e9
        try:
            client.run(t0_ns)
        finally:
            gc.enable()
            client.close()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return LoadSummary(
        t0_monotonic_s=t0_ns / 1e9,
        t0_unix_s=t0_unix_s,
        due=client.due,
        sent=client.sent,
        stamps=stamps_of(receipts, tls=address.tls is not None),
        clock_step_s=receipts.offset.largest_step_ns / 1e9,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_rss_bytes=peak_rss_bytes(),
        stopped_early=client.stopped,
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="generator")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", default="", help="K/N: the K-th of N clients of one load")
    options = parser.parse_args(argv)
    folder = LoadFolder(options.folder)
    number, parts = map(int, options.part.split("/")) if options.part else (0, 0)
    try:
        folder.write_summary(run(folder, max(number, 1), parts), number)
    except (OSError, msgspec.DecodeError) as error:
        print(f"the load generator stopped: {error}", file=sys.stderr)
        folder.write_error(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
