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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from reference_stack.errors import NotReady, SettingsError
from reference_stack.orchestration import entry
from reference_stack.orchestration.measured_run import AGAIN, ENGINE, TRACES
from reference_stack.schemas.configuration.workload import find_workload
from reference_stack.services.ai_models.model_spec import load_spec, model_names

_BURST = 64  # requests at once, to find what the engine serves at most
_ANSWER_S = 600.0


@dataclass(frozen=True, slots=True)
class Loads:
    """`parts` of what the engine serves at most; every second one is held back, to test the fit on what it never saw.

    Each is judged in two windows of `requests`, or of `window_s` where that is shorter, after `warm_up_s`.
    """

    parts: Sequence[float] = (0.1, 0.3, 0.6, 0.9, 1.2)
    requests: int = 400
    window_s: float = 20.0
    warm_up_s: float = 3.0
    engine: str = "vllm"


Perf = Callable[[str, str, float, Path, Loads], None]


def measure(
    models: Sequence[str], weights: str, folder: Path, loads: Loads = Loads(), run_load: Perf | None = None
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Measure `models` (none: all four) with `weights` into `folder`; return the runs to fit to and those to test on.

    Those to test on are measured once more at the end, under their name with AGAIN: two runs of one load differ too.
    `run_load` is `perf` unless given.
    Raises NotReady when an engine does not start, SettingsError for a model that is none or without the harness.
    """
    if importlib.util.find_spec("hxp_harness") is None:
        raise SettingsError("measuring needs the harness, which is not installed", hint="pip install the whole project")
    for model in models:
        load_spec(model)  # refuses what is none, before minutes are spent
    fitted_to: list[Path] = []
    held_back: list[Path] = []
    for model in models or model_names():
        with _engine(model, weights, folder / f"{model}-stack", loads.engine) as row:
            facts = row.get("facts", {})
            most_rps = asyncio.run(most_rps_of(str(row["base_url"]), model))
            series = [(part, f"{model}-{part * 100:.0f}") for part in loads.parts]
            checks = series[1::2]
            again = [(part, f"{name}{AGAIN}") for part, name in checks]
            _say(f"{model} serves at most {most_rps:.3g} requests/s; {len(series + again)} runs follow")
            for part, name in series + again:
                run = folder / name
                (run_load or perf)(model, str(row["base_url"]), most_rps * part, run, loads)
                told = {"model": model, "weights": weights, "flags": facts.get("flags", "")}
                told |= {"vllm": facts.get("vllm", ""), "device": facts.get("device", "")}
                (run / ENGINE).write_text(json.dumps(told, indent=1), encoding="utf-8")
                (held_back if (part, name) in checks + again else fitted_to).append(run)
    return tuple(fitted_to), tuple(held_back)


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


async def most_rps_of(base_url: str, model: str) -> float:
    """Return the rate at which a burst of the profile's requests is served; a first burst warms the engine up."""
    asked = find_workload(model).contract
    body = {"model": model, "max_tokens": asked.output_tokens, "ignore_eos": True, "temperature": 0}

    async def one(session: aiohttp.ClientSession, seed: int) -> None:
        prompt = [3 + (seed * 7919 + place * 104729) % 1000 for place in range(asked.prompt_tokens)]
        async with session.post(f"{base_url}/completions", json={**body, "prompt": prompt}) as answer:
            if answer.status != 200:
                raise NotReady(f"{base_url} answers {answer.status}: {(await answer.text())[:200]}")

    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        served_rps = 0.0
        for turn in range(2):
            began_s = time.monotonic()
            await asyncio.gather(*(one(session, turn * _BURST + seed) for seed in range(_BURST)))
            served_rps = _BURST / (time.monotonic() - began_s)
    return served_rps


def perf(model: str, base_url: str, rate_rps: float, out: Path, loads: Loads) -> None:
    """Run `hxp perf` at `rate_rps`; its verdict does not matter here, its traces do."""
    contract = find_workload(model).asked
    requests = max(min(loads.requests, round(rate_rps * loads.window_s)), 20)
    profile = {
        "schema": 1,
        "name": f"{model}_calibration",
        "title": f"Calibration of {model} at {rate_rps:.3g} rps",
        "service": model,
        "contract": {
            "prompt_tokens": contract.prompt_tokens,
            "output_tokens": contract.output_tokens,
            "rate": f"{rate_rps:.4g} rps",
            "timeout": "120 s",
        },
        "gates": ["e2e mean <= 1000 s"],
        "replicates": {"count": 2, "requests": requests, "warm_up": f"{loads.warm_up_s:g} s"},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")
    _say(f"{out.name}: {2 * requests} requests at {rate_rps:.3g} rps")
    words = ("perf", "--profile", str(file), "--target", base_url, "--api-model", model, "--out", str(out))
    argv = [sys.executable, "-m", "hxp_harness", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if not (out / TRACES).exists():
        raise NotReady(f"hxp perf wrote no traces:\n{done.stderr.strip()[-500:]}", hint=f"hxp {' '.join(words)}")


def _say(text: str) -> None:
    print(f"calibrate: {text}", file=sys.stderr, flush=True)
