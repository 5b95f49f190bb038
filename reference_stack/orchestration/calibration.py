"""`hxp-stack calibrate`: measured runs in, the constants of a device out, and how well they predict other runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reference_stack.errors import SettingsError
from reference_stack.orchestration import aim
from reference_stack.orchestration.measured_run import read_engine, read_runs
from reference_stack.orchestration.measuring import measure
from reference_stack.services.ai_models.calibrate import FITTED, Observed, fit, on_one_scale
from reference_stack.services.ai_models.device_file import device_of, write_device
from reference_stack.services.ai_models.gpu import choose, find_gpus
from reference_stack.services.ai_models.model_spec import load_spec, model_names
from reference_stack.services.ai_models.physics import Device

_SAY_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of the command. Without `runs`, `models` are started with `weights` and measured into `folder`.

    Runs that are marked as held back test the fit, as those in `check` do.
    """

    device: str
    runs: tuple[Path, ...] = ()
    check: tuple[Path, ...] = ()
    models: tuple[str, ...] = ()
    weights: str = "dummy"
    folder: Path = Path("reports/calibration")
    out: Path | None = None
    evaluations: int = 200


def calibrate(asked: Asked) -> int:
    """Measure if there is nothing to read, fit, show what was fitted and predicted, and write the device file.

    Raises SettingsError or NotReady.
    """
    device = device_of(asked.device)
    if asked.out is not None and not os.access(asked.out.absolute().parent, os.W_OK):
        raise SettingsError(f"cannot write {asked.out}: {asked.out.absolute().parent} is no folder to write to")
    for model in asked.models:
        load_spec(model)  # refuses what is none
    if not asked.runs:
        _check_machine(device, asked)
    runs = asked.runs or measure(asked.models, asked.weights, asked.folder)
    fitted_to, held_back = read_runs(runs)
    held_back += [run for kind in read_runs(asked.check) for run in kind]
    fitted_to, held_back = on_one_scale(fitted_to, held_back)
    if not fitted_to:
        raise SettingsError("there is no run to calibrate from")
    found = fit(device, fitted_to, evaluations=asked.evaluations, say=progress())
    print("\n".join(_page(device, found, fitted_to, held_back)))
    if asked.out is not None:
        names = [name for name in FITTED if getattr(found, name) != getattr(device, name)]
        engine = read_engine(_first_folder(runs))
        told = {"engine": f"vLLM {engine.vllm} on {engine.device}", "fitted_to": [run.name for run in fitted_to]}
        write_device(asked.out, device.name, found, names, **told)
        print(f"\nwritten: {asked.out}; use it: hxp-stack plan --device {asked.out}")
    return 0


def _check_machine(device: Device, asked: Asked) -> None:
    """Raise SettingsError, before minutes are spent, where what would be measured here is not `device`."""
    if asked.weights == "tiny":
        if device.name != "cpu":
            raise SettingsError(
                f"tiny weights run on the CPU: what they take says nothing of {device.title}",
                hint="--device cpu; or --weights dummy, on a machine with that GPU",
            )
        return
    gpus = find_gpus()
    here = gpus[0].device if gpus else None
    if here is not None and here.name != device.name:
        raise SettingsError(f"this machine has {gpus[0].title}, not {device.title}", hint=f"--device {here.name}")
    choose((asked.models or model_names())[0], asked.weights, device.name)


def _first_folder(runs: Sequence[Path]) -> Path:
    return next((file.parent for run in runs for file in sorted(run.glob("*/engine.json"))), runs[0])


def progress() -> Callable[[int, float], None]:
    """Return what says every two seconds how far the fit is."""
    said_s = time.monotonic()

    def say(tries: int, error: float) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= _SAY_EVERY_S:
            said_s = time.monotonic()
            print(f"fitting: {tries} tries, typical error {error:.0%}", file=sys.stderr)

    return say


def _page(before: Device, after: Device, fitted: Sequence[Observed], held_back: Sequence[Observed]) -> Iterator[str]:
    yield f"{before.title}: constants fitted to {len(fitted)} runs"
    for name in FITTED:
        old, new = getattr(before, name), getattr(after, name)
        yield f"  {name:22} {_shown(name, old):>10} -> {_shown(name, new)}"
    yield "\nmeasured, predicted (error) of the runs fitted to"
    yield from (line for run in fitted for line in _lines(run, after))
    if held_back:
        yield "\nruns not fitted to, which are the test"
        yield from aim.page(aim.judge(after, held_back))


def _lines(run: Observed, device: Device) -> Iterator[str]:
    measured, predicted = run.figures, run.predicted(device)
    cells = []
    for name, seen_s in measured.items():
        told_s = predicted[name]
        cells.append(f"{name} {seen_s * 1e3:.4g}, {told_s * 1e3:.4g} ms ({told_s / seen_s - 1:+.0%})")
    rate_rps = (len(run.arrival_s) - 1) / max(float(run.arrival_s[-1] - run.arrival_s[0]), 1e-9)
    yield f"  {run.name} ({run.spec.name}, {rate_rps:.3g} rps)"
    yield from (f"    {'   '.join(cells[place : place + 2])}" for place in range(0, len(cells), 2))


def _shown(name: str, value: float) -> str:
    return f"{value * 1e3:.4g} ms" if name.endswith("_s") else f"{value:.3g}"
