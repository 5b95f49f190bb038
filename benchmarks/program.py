"""How long the programs take to say something, and what judging costs: `python benchmarks/program.py`.

Prints medians of repeated whole processes, with their peak memory. Nothing here is a test: the machine is shared.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hxp_harness import evidence
from hxp_harness.gates.facts import Asked
from hxp_harness.load.folder import LoadFolder
from hxp_harness.load.plan import LoadSummary
from hxp_harness.metrics.table import write_traces
from hxp_harness.profile import find_profile
from hxp_harness.trace import Trace

WATCHER = """
import os, sys, time
begin = time.perf_counter()
null = os.open(os.devnull, os.O_WRONLY)
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)])
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - begin, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
"""


def timed(argv: Sequence[str], cwd: Path | None = None) -> tuple[float, float, int]:
    """Run `argv`; return its wall time in s, its peak memory in MB and its exit code.

    A small process starts it: a child's peak counts from its parent's size, and this one is large.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", WATCHER, *argv], capture_output=True, text=True, cwd=cwd, check=True
    )
    seconds, peak_mb, code = done.stdout.split()
    return float(seconds), float(peak_mb), int(code)


def traces(asked: Asked, requests: int) -> Iterator[Trace]:
    """Yield plausible traces: `requests` of them, a token every 10 ms."""
    for index in range(requests):
        intended_s = index / asked.rate_rps
        jitter_s = (index * 7919 % 1000) / 1e5
        times = tuple(intended_s + 0.05 + jitter_s + 0.01 * token for token in range(asked.output_tokens))
        yield Trace(
            index=index,
            replicate=index * asked.replicates // requests,
            intended_s=intended_s,
            asked_prompt_tokens=round(asked.prompt_tokens),
            asked_output_tokens=asked.output_tokens,
            sent_s=intended_s + 1e-5,
            end_s=times[-1],
            token_lo_s=times,
            token_hi_s=times,
            chunks=len(times),
            prompt_tokens=round(asked.prompt_tokens),
            output_tokens=asked.output_tokens,
            status=200,
            finish_reason="length",
            request_id=f"bench-{index}",
        )


def stored_run(folder: Path, requests: int) -> None:
    """Write a run of mixtral's profile with `requests` measured requests into `folder`."""
    profile = find_profile("mixtral")
    count = profile.replicates.count
    profile = profile.model_copy(
        update={"replicates": profile.replicates.model_copy(update={"requests": requests // count})}
    )
    asked = Asked.of(profile.contract, profile.replicates)
    evidence.write_profile(folder, profile)
    certificate = {"ok": True, "reasons": []}
    evidence.write_json(folder, evidence.CERTIFICATE_BEFORE, certificate)
    evidence.write_json(folder, evidence.CERTIFICATE_AFTER, certificate)
    evidence.write_json(folder, evidence.MANIFEST, {"id": "benchmark", "started": "", "evidence": "simulated"})
    (folder / evidence.RECORD).touch()  # so that judging writes nothing
    evidence.write_json(folder, evidence.END, {"interrupted": False})
    LoadFolder(folder).write_summary(LoadSummary(0, 0, requests, requests, "kernel", 0, 0, 0, stopped_early=False))
    write_traces(folder / "traces.parquet", traces(asked, requests))


def main() -> None:
    """Print one line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="processes a line; default: %(default)s")
    parser.add_argument("--million", action="store_true", help="judge 1,000,000 requests too: a minute to write")
    options = parser.parse_args()
    runs = options.runs
    bin_folder = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        commands: list[tuple[str, list[str]]] = [
            ("hxp --help", [str(bin_folder / "hxp"), "--help"]),
            ("hxp-stack --help", [str(bin_folder / "hxp-stack"), "--help"]),
        ]
        for requests in (16_000, 100_000, *((1_000_000,) if options.million else ())):
            folder = Path(scratch) / str(requests)
            folder.mkdir()
            stored_run(folder, requests)
            label, argv = f"hxp judge, {requests:,} x 64 tokens", [str(bin_folder / "hxp"), "judge", str(folder)]
            gates = folder / "gaps.txt"
            gates.write_text("itl p99 <= 50 ms\ne2e p95 <= 2000 ms\n", encoding="utf-8")
            commands += [(label, argv), (f"{label}, itl", [*argv, "--gates", str(gates)])]
        print(f"{'command':<43}{'median s':>10}{'max s':>8}{'peak MB':>9}{'exit':>6}")
        for label, argv in commands:
            seen = [timed(argv) for _ in range(runs)]
            seconds = [row[0] for row in seen]
            print(
                f"{label:<43}{statistics.median(seconds):>10.3f}{max(seconds):>8.3f}"
                f"{max(row[1] for row in seen):>9.0f}{seen[-1][2]:>6}"
            )
        folder = Path(scratch) / "stack"
        up = [str(bin_folder / "hxp-stack"), "up", "--ports", "free", "--folder", str(folder)]
        down = [str(bin_folder / "hxp-stack"), "down", "--folder", str(folder)]
        timed(up), timed(down)  # the first start fills the caches
        pairs = [(timed(up), timed(down)) for _ in range(runs)]
        for label, place in (("hxp-stack up, warm", 0), ("hxp-stack down", 1)):
            seconds = [pair[place][0] for pair in pairs]
            codes = {pair[place][2] for pair in pairs}
            print(f"{label:<43}{statistics.median(seconds):>10.3f}{max(seconds):>8.3f}{'':>9}{max(codes):>6}")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
