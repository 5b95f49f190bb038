"""Makes the runs that a calibration needs: real engines, one after another, under loads from idle to past saturation.

The load and the times are the harness's: `hxp perf` is started as a program, as a person would.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration import entry
from reference_stack.orchestration.loads import Load, Loads, Speed, fullest, in_turn
from reference_stack.orchestration.measured_run import ENGINE, TRACES, MeasuredEngine, read_run
from reference_stack.orchestration.yardstick import write_readings, yardstick
from reference_stack.schemas.configuration.workload import find_workload
from reference_stack.services.ai_models.model_spec import load_spec, model_names

_BURST = 64  # requests at once, to find what the engine serves at most
_ANSWER_S = 600.0
_LOADS = Loads()
Perf = Callable[[str, str, Load, Path, Loads], None]


def measure(
    models: Sequence[str], weights: str, folder: Path, loads: Loads = _LOADS, run_load: Perf | None = None
) -> tuple[Path, ...]:
    """Measure `models` (none: all four) with `weights` into `folder`; return the runs, see loads.py.

    `run_load` is `perf` unless given. Raises NotReady when an engine does not start, SettingsError for a model that
    is none, without the harness, and where `folder` holds runs of a model already.
    """
    if importlib.util.find_spec("hxp_harness") is None:
        raise SettingsError("measuring needs the harness, which is not installed", hint="pip install the whole project")
    for model in models or model_names():
        load_spec(model)  # refuses what is none, before minutes are spent
        if kept := sorted(folder.glob(f"{model}-*/{ENGINE}")):
            raise SettingsError(
                f"{folder} holds {len(kept)} measured runs of {model} already",
                hint=f"give another --folder, or fit to them: hxp-stack calibrate --device NAME {folder}",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}", hint="give another --folder") from None
    runs: list[Path] = []
    for model in models or model_names():
        with _engine(model, weights, folder / f"{model}-stack", loads.engine) as row:
            runs += _measure_one(model, weights, folder, loads, row, run_load or perf)
    return tuple(runs)


def _measure_one(
    model: str, weights: str, folder: Path, loads: Loads, row: Mapping[str, Any], run_load: Perf
) -> Iterator[Path]:
    """Measure one model that runs as `row` of the ready line says, and yield each run."""
    base_url, facts = str(row["base_url"]), row.get("facts", {})
    told = {"model": model, "weights": weights, "flags": facts.get("flags", "")}
    told |= {"vllm": facts.get("vllm", ""), "device": facts.get("device", "")}
    speed = asyncio.run(speed_of(base_url, model))
    most_slots = MeasuredEngine(**told).most_at_once(find_workload(model).contract)
    count = 1

    def run_one(load: Load) -> Path:
        nonlocal count
        run = folder / load.name
        _say(f"{model}, run {count}: {load.name.removeprefix(f'{model}-')}, {load.rate_rps:.3g} requests/s")
        count += 1
        with yardstick() as readings:
            run_load(model, base_url, load, run, loads)
        write_readings(run, readings)
        engine = {**told, "slots": load.slots, "held_back": load.held_back}
        (run / ENGINE).write_text(json.dumps(engine, indent=1), encoding="utf-8")
        return run

    first = run_one(fullest(model, speed, most_slots))
    yield first
    speed = replace(speed, most_rps=most_slots / read_run(first).figures["e2e mean"])  # Little's law
    rest = tuple(in_turn(model, speed, most_slots, loads))
    _say(f"{model} serves {speed.most_rps:.3g} requests/s to {most_slots} clients; {len(rest)} runs follow")
    for load in rest:
        yield run_one(load)


@contextlib.contextmanager
def _engine(model: str, weights: str, folder: Path, engine: str) -> Iterator[Mapping[str, Any]]:
    """Start one model as a harness would, and yield its row of the ready line."""
    _say(f"starting {model} with {weights} weights: a minute or more; {folder}/logs tells")
    folder.mkdir(parents=True, exist_ok=True)
    argv = entry.argv({"folder": folder.absolute(), "services": [model], "engine": engine, "weights": weights})
    with (
        (folder / "stack.log").open("wb") as log,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as stack,
    ):
        line = stack.stdout.readline() if stack.stdout is not None else b""
        try:
            said = json.loads(line or b"{}")
            if not said.get("ready"):
                hint = str(said.get("hint") or f"read {folder}/stack.log")
                raise NotReady(str(said.get("error", "the engine did not start")), hint=hint)
            yield said["services"][model]
        finally:
            if stack.stdin is not None:
                stack.stdin.close()  # its end is what stops a stack that was started so


async def speed_of(base_url: str, model: str) -> Speed:
    """Return how fast a burst of the profile's requests is served, and one alone; a first burst warms the engine up."""
    asked = find_workload(model).contract
    body = {"model": model, "max_tokens": asked.output_tokens, "ignore_eos": True, "temperature": 0}

    async def one(session: aiohttp.ClientSession, seed: int) -> None:
        prompt = [3 + (seed * 7919 + place * 104729) % 1000 for place in range(asked.prompt_tokens)]
        async with session.post(f"{base_url}/completions", json={**body, "prompt": prompt}) as answer:
            if answer.status != 200:
                raise NotReady(f"{base_url} answers {answer.status}: {(await answer.text())[:200]}")

    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    taken_s = []
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for turn, burst in enumerate((_BURST, _BURST, 1)):
            began_s = time.monotonic()
            await asyncio.gather(*(one(session, turn * _BURST + seed) for seed in range(burst)))
            taken_s.append(time.monotonic() - began_s)
    return Speed(_BURST / taken_s[1], taken_s[2])


def perf(model: str, base_url: str, load: Load, out: Path, loads: Loads) -> None:
    """Run `hxp perf` under `load`; its verdict does not matter here, its traces do."""
    contract = find_workload(model).asked
    requests = max(min(loads.requests, round(load.rate_rps * loads.window_s)), 20)
    profile = {
        "schema": 1,
        "name": f"{model}_calibration",
        "title": f"Calibration: {load.name}",
        "service": model,
        "contract": {
            "prompt_tokens": contract.prompt_tokens,
            "output_tokens": contract.output_tokens,
            "rate": f"{load.rate_rps:.4g} rps",
            "arrival": {"kind": "closed", "concurrency": load.slots} if load.slots else "poisson",
            "timeout": "120 s",
        },
        "gates": ["e2e mean <= 1000 s"],
        "replicates": {"count": 2, "requests": requests, "warm_up": f"{loads.warm_up_s:g} s"},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")
    words = ("perf", "--profile", str(file), "--target", base_url, "--api-model", model, "--out", str(out))
    argv = [sys.executable, "-m", "hxp_harness", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if not (out / TRACES).exists():
        raise NotReady(f"hxp perf wrote no traces:\n{done.stderr.strip()[-500:]}", hint=f"hxp {' '.join(words)}")


def _say(text: str) -> None:
    print(f"calibrate: {text}", file=sys.stderr, flush=True)
