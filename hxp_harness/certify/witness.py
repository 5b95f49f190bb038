"""An independent witness of the golden server's log: strace, which stops the process at each call into the kernel.

strace takes its time while the server stands still before a call, and again after it. So the call itself lies between
the two, whatever else the machine does, and a log that is true has them between its own `lo_s` and `hi_s`. What was
sent is known by its content (request id and order), not by its time. Stopping makes the server slower, and its log with
it: the widths seen here are upper bounds.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.certificate import Drive, driven_by
from hxp_harness.certify.golden_process import golden
from hxp_harness.certify.truth import Truth
from hxp_harness.errors import NotReady
from hxp_harness.load.plan import LoadPlan
from hxp_harness.load.schedule import draw
from hxp_harness.profile import Contract, Replicates

PROGRAM = "strace"
_SLACK_S = 20e-6  # strace writes whole microseconds, and two clocks are brought together
_CONTRACT = {"prompt_tokens": 8, "output_tokens": 16, "rate": "20 rps"}
_REQUESTS = 40
# TIME sendto(9, "b5\r\ndata: {\"id\":\"chatcmpl-ID\"...\"content\":\" t0"..., 184, 0, NULL, 0) = 184 <0.000020>
_SENT = re.compile(r"(?P<at>\d+\.\d+) sendto\(\d+, \"(?P<said>.*)\"\.*, .*= \d+ <(?P<took>\d+\.\d+)>$")
_TOKEN = re.compile(r'chatcmpl-(?P<id>[\w-]+)\\".*content\\":\\"[^\\]')


@dataclass(frozen=True, slots=True)
class Call:
    """One call that sent a token; seconds on the wall clock, as strace has them."""

    request_id: str
    begun_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Log against calls, over all tokens; seconds. `begin` is call - lo, `end` is hi - call: never below 0 in truth."""

    tokens: int
    unlike: int  # requests whose calls are not as many as their logged events
    outside: int  # tokens whose call is not within the logged interval
    begin_p50_s: float = 0.0
    begin_p99_s: float = 0.0
    begin_max_s: float = 0.0
    end_p50_s: float = 0.0
    end_p99_s: float = 0.0
    end_max_s: float = 0.0

    @property
    def proven(self) -> bool:
        return self.tokens > 0 and not self.unlike and not self.outside


def calls_in(trace: str) -> list[Call]:
    """Return the calls that sent a token, in order, from what strace wrote (-ttt -T, strings cut or whole)."""
    found = []
    for line in trace.splitlines():
        sent = _SENT.search(line)
        token = sent and _TOKEN.search(sent["said"])
        if sent and token:
            at_s = float(sent["at"])
            found.append(Call(token["id"], at_s, at_s + float(sent["took"])))
    return found


def compare(calls: Sequence[Call], truths: Mapping[str, Truth], offset_s: float) -> Difference:
    """Hold the log against the calls. `offset_s` is wall - monotonic. Pure."""
    by_request: dict[str, list[Call]] = {}
    for call in calls:
        by_request.setdefault(call.request_id, []).append(call)
    pairs = [
        (call, event)
        for request_id, truth in truths.items()
        if len(by_request.get(request_id, ())) == len(truth.events)
        for call, event in zip(by_request.get(request_id, ()), truth.events, strict=True)
    ]
    unlike = sum(len(by_request.get(name, ())) != len(truth.events) for name, truth in truths.items())
    if not pairs:
        return Difference(0, unlike, 0)
    begins = [call.begun_s - offset_s - event.lo_s for call, event in pairs]
    ends = [event.hi_s - (call.ended_s - offset_s) for call, event in pairs]
    outside = sum(min(begin, end) < -_SLACK_S for begin, end in zip(begins, ends, strict=True))
    figures = [_order(values, q) for values in (begins, ends) for q in (0.5, 0.99, 1.0)]
    return Difference(len(pairs), unlike, outside, *figures)


def _order(values: Sequence[float], q: float) -> float:
    return sorted(values)[max(math.ceil(q * len(values)), 1) - 1]


def witness(folder: Path, *, program: str = PROGRAM, seed: int = 1, drive: Drive | None = None) -> Difference:
    """Run a golden server under strace for a short load and compare. Raises NotReady where that cannot be done here."""
    found = shutil.which(program)
    if found is None:
        raise NotReady(f"no {program} here, so the golden server's log is not proven", hint="apt-get install strace")
    trace = folder / "strace.txt"
    folder.mkdir(parents=True, exist_ok=True)
    under = (found, "-f", "-ttt", "-T", "-e", "trace=sendto", "-s", "400", "-o", str(trace))
    contract = Contract.model_validate(_CONTRACT)
    schedule = draw(contract, Replicates(count=2, requests=_REQUESTS // 2, warm_up_s=0.0), seed)
    offset_s = _offset_s()
    try:
        with golden(folder, Behaviour(ttft_s=0.05, itl_s=0.005), seed=seed, under=under) as server:
            plan = LoadPlan(server.base_url, server.model, contract.api, contract.stream, contract.timeout_s)
            (drive or driven_by())(folder / "load", plan, schedule)
            truths = server.truths()
    except NotReady as error:
        raise NotReady(f"{program} could not run the golden server: it is not proven", hint=error.message) from None
    return compare(calls_in(trace.read_text(encoding="utf-8", errors="replace")), truths, (offset_s + _offset_s()) / 2)


def _offset_s() -> float:
    """Return wall - monotonic, from the closest of a few pairs of readings."""
    found = []
    for _ in range(9):
        before_s, wall_s, after_s = time.monotonic(), time.time(), time.monotonic()
        found.append((after_s - before_s, wall_s - (before_s + after_s) / 2))
    return min(found)[1]


def told(found: Difference) -> str:
    """Return the difference as lines, in microseconds."""
    if not found.tokens:
        return "golden server's log against strace: nothing could be compared, so it is not proven"
    rows = (
        ("call begins after the log's lo", found.begin_p50_s, found.begin_p99_s, found.begin_max_s),
        ("call ends before the log's hi", found.end_p50_s, found.end_p99_s, found.end_max_s),
    )
    lines = [f"golden server's log against strace, {found.tokens} tokens, us (p50, p99, max):"]
    lines += [f"  {name:<32}" + "".join(f"{value * 1e6:>10.0f}" for value in values) for name, *values in rows]
    said = "every call lies within its logged interval: proven" if found.proven else "NOT proven"
    return "\n".join([*lines, f"  {said}; {found.outside} outside, {found.unlike} requests unlike"])
