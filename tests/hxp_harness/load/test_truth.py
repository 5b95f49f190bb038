"""What the hot loop reports against a server that knows the truth, while the hot loop is held up on purpose."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from hxp_harness.certify.behaviour import Behaviour
from hxp_harness.certify.golden_process import golden
from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.schedule import write_schedule
from hxp_harness.load.trace_file import read_traces
from tests.hxp_harness.load.conftest import dues, killed_at_the_end, plan_for

# The server notes times around its call into the kernel; the kernel stamps the segment a little later, and both are
# brought together over two clocks.
SLACK_S = 100e-6


def test_the_truth_lies_within_every_interval(tmp_path: Path) -> None:
    """A client that is stopped again and again reports wider intervals, never wrong ones."""
    pauses = random.Random(5)
    folder = LoadFolder(tmp_path)
    with golden(tmp_path, Behaviour(ttft_s=0.02, itl_s=0.004, jitter_s=0.003)) as server:
        folder.write_plan(replace(plan_for(server.base_url), api_model=server.model))
        write_schedule(folder.schedule, dues(120, gap_s=0.01, tokens=16))
        command = [sys.executable, "-m", "hxp_harness.load.generator", str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as hot_loop, killed_at_the_end(hot_loop):
            while hot_loop.poll() is None:
                time.sleep(pauses.uniform(0.01, 0.1))  # runs in between
                os.kill(hot_loop.pid, signal.SIGSTOP)
                time.sleep(pauses.choice([0.005, 0.02, 0.05]))  # is held up
                os.kill(hot_loop.pid, signal.SIGCONT)
            assert hot_loop.returncode == 0
        t0_s = folder.read_summary().t0_monotonic_s
        truths = server.truths()
    traces = list(read_traces(folder.traces))
    assert len(traces) == 120
    assert all(trace.ok for trace in traces)
    merged = 0
    for trace in traces:
        events = truths[trace.request_id].events
        assert len(trace.token_lo_s) == sum(event.tokens for event in events) == 16
        for low_s, high_s, event in zip(trace.token_lo_s, trace.token_hi_s, events, strict=True):
            merged += low_s < high_s
            assert t0_s + low_s <= event.hi_s + SLACK_S
            assert t0_s + high_s >= event.lo_s - SLACK_S
    assert merged > 50, "the pauses merged no reads, so nothing was shown"
