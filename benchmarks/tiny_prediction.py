"""How well the simulated vLLM predicts real tiny vLLM on this CPU, under loads that nothing was fitted to.

`--measure` starts the engine and measures it (10 minutes at most, on a machine that does nothing else); without it, the
runs in FOLDER are fitted to and judged (7 minutes at most), and `--docs` puts the result into the docs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.load.page import put
from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration.aim import cells, counts, judge
from reference_stack.orchestration.calibration import progress
from reference_stack.orchestration.measured_run import read_runs
from reference_stack.orchestration.measuring import measure
from reference_stack.services.ai_models.calibrate import FITTED, Observed, fit, on_one_scale
from reference_stack.services.ai_models.physics import Device, find_device

MODEL = "mixtral"
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "calibration.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or fit and show; 2 where there is nothing to fit to or the engine does not start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the measured runs are, or go with --measure")
    parser.add_argument("--measure", action="store_true", help="start real tiny vLLM and measure it")
    parser.add_argument("--docs", action="store_true", help=f"put the result into {PAGE.name}")
    parser.add_argument("--evaluations", type=int, default=200, metavar="N", help="tries of the fit at most")
    options = parser.parse_args(argv)
    try:
        if options.measure:
            return _measure(options.folder)
        text = "\n".join(judged_page(options.folder, options.evaluations))
    except (SettingsError, NotReady) as error:
        print(f"{error}\n{error.hint}", file=sys.stderr)
        return 2
    print(text)
    if options.docs:
        put("tiny_prediction", text, PAGE)
    return 0


def _measure(folder: Path) -> int:
    print(f"load average {os.getloadavg()[0]:.2f}: nothing else may run meanwhile", file=sys.stderr)
    began_s = time.monotonic()
    runs = measure((MODEL,), "tiny", folder)
    print(f"{len(runs)} runs in {(time.monotonic() - began_s) / 60:.1f} minutes: {folder}")
    return 0


def judged_page(folder: Path, evaluations: int) -> Iterator[str]:
    """Yield the page: what was fitted, how the machine's speed changed, and each figure measured and predicted."""
    fitted_to, tests = on_one_scale(*read_runs([folder]))
    if not fitted_to or not tests:
        raise SettingsError(f"{folder} has no runs to fit to and to test on", hint="--measure makes them")
    device = fit(find_device("cpu"), fitted_to, evaluations=evaluations, say=progress())
    yield (
        f"{len(fitted_to)} runs fitted to, {len(tests)} to test on, {sum(map(_answered, (*fitted_to, *tests)))} "
        f"answers. {_speeds([*fitted_to, *tests])}"
    )
    yield f"\nFitted, at the usual speed: {_constants(device)}.\n"
    judged = judge(device, tests)
    head, *rows = cells(judged)
    yield _row(head)
    yield _row(["---"] * len(head))
    yield from map(_row, rows)
    yield f"\n{counts(judged).capitalize()}."
    if any(run.drift is not None for run in tests):
        without = counts(judge(device, [replace(run, drift=None) for run in tests]))
        yield f"With the same constants, and no look at the machine's speed: {without.partition(': ')[2]}."


def _answered(run: Observed) -> int:
    return int(run.judged.sum())


def _speeds(runs: Sequence[Observed]) -> str:
    drifts = [run.drift for run in runs if run.drift is not None]
    if not drifts:
        return "The machine's speed was not measured."
    low, high = np.quantile(np.concatenate([one.slowness for one in drifts]), (0.05, 0.95))
    return f"The yardstick took from {low:.2f} to {high:.2f} of what it usually took (5th and 95th percentile)."


def _constants(device: Device) -> str:
    return ", ".join(f"{name} {getattr(device, name):.3g}" for name in FITTED if getattr(device, name))


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    sys.exit(main())
