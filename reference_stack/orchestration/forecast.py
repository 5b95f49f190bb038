"""The commands that predict: `plan` says what can be met, `simulate` writes what each request would see."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from reference_stack.errors import SettingsError, nearest
from reference_stack.schemas.configuration.workload import Workload, find_workload, known_workloads, read_workload
from reference_stack.services.ai_models.device_file import device_of
from reference_stack.services.ai_models.feasibility import Feasibility, assess, limits_of, loads, widest_precision
from reference_stack.services.ai_models.model_spec import WEIGHT_BYTES, ModelSpec, load_spec, model_names
from reference_stack.services.ai_models.nearest import Nearest, nearest_fit, sentence
from reference_stack.services.ai_models.physics import Device
from reference_stack.services.ai_models.simulate import Simulated, arrivals_s, simulate

_GB = 1e9
_HEAD = ("PROFILE", "WEIGHTS", "KV TOKENS", "BATCH", "STEP", "USED", "E2E", "LIMIT", "UP TO", "VERDICT", "BOUND BY")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the commands: a profile by name or file (neither: all), a device, and maybe a precision."""

    name: str | None = None
    file: Path | None = None
    device: str = "h200"
    precision: str | None = None

    def workloads(self) -> list[Workload]:
        """Return the profiles meant; raise SettingsError where one is no model's, or there is none."""
        if self.file is not None or self.name is not None:
            one = read_workload(self.file) if self.file is not None else find_workload(self.name or "")
            if one.service not in model_names():
                raise SettingsError(
                    f"the profile {one.name} is for {one.service!r}, which is no model",
                    hint=nearest(one.service, model_names()),
                )
            return [one]
        every = [read_workload(file) for file in known_workloads().values()]
        found = [one for one in every if one.service in model_names()]
        if not found:
            raise SettingsError("no profiles here", hint="hxp-stack plan --profile FILE")
        return sorted(found, key=lambda one: model_names().index(one.service))

    def spec(self, model: str) -> ModelSpec:
        """Return the model in the precision asked for; raise SettingsError with the nearest right spelling."""
        spec = load_spec(model)
        if self.precision is None:
            return spec
        if self.precision not in WEIGHT_BYTES:
            raise SettingsError(f"no precision {self.precision!r}", hint=nearest(self.precision, WEIGHT_BYTES))
        return spec.model_copy(update={"precision": self.precision})


def plan(question: Question, *, as_json: bool) -> int:
    """Show what each profile asks, what the device is predicted to give, and whether all models fit side by side."""
    device = device_of(question.device)
    rows = []
    workloads = question.workloads()
    for done, workload in enumerate(workloads):
        if len(workloads) > 1:  # one is there in no time
            print(f"simulating {workload.name} ({done + 1} of {len(workloads)})", file=sys.stderr)
        spec = question.spec(workload.service)
        found = assess(spec, device, workload.contract)
        rows.append((workload.name, found, nearest_fit(spec, device, found)))
    if as_json:
        tree = {
            "device": device.title,
            "evidence": f"simulated, {_constants(device)}",
            "profiles": {name: _row(found, near) for name, found, near in rows},
            "together": _together(device),
        }
        print(json.dumps(tree))
    else:
        print("\n".join(_page(device, rows)))
    return 0


def _row(found: Feasibility, near: Nearest) -> dict[str, object]:
    tree = asdict(found) | {"contract": found.contract.model_dump()}
    return tree | {"nearest": asdict(near), "sentence": sentence(found, near)}


def _together(device: Device) -> dict[str, object]:
    """Whether every model starts in its own limit, and all limits on one device."""
    specs = [load_spec(name) for name in model_names()]
    models = {
        spec.name: {
            "memory_limit_bytes": spec.memory_limit_bytes,
            "precision": spec.precision,
            "widest_precision": widest_precision(spec, device),
            "starts": loads(spec, device),
        }
        for spec in specs
    }
    total = sum(spec.memory_limit_bytes for spec in specs)
    fits = total <= device.memory_bytes and all(loads(spec, device) for spec in specs)
    return {"models": models, "limits_bytes": total, "device_bytes": device.memory_bytes, "fits": fits}


def _constants(device: Device) -> str:
    return f"calibrated with {device.calibrated}" if device.calibrated else "uncalibrated"


def _page(device: Device, rows: Sequence[tuple[str, Feasibility, Nearest]]) -> Iterator[str]:
    yield f"Predicted for {device.title}, each model alone. A simulation, constants {_constants(device)}: no evidence."
    yield ""
    yield from _columns([_HEAD, *(_cells(*row) for row in rows)])
    for _, found, near in rows:
        if found.fit != "FEASIBLE":
            yield f"\n{sentence(found, near)}"
    yield "\nSide by side, each inside its memory limit:"
    yield from _columns(
        [
            ("MODEL", "LIMIT", "SERVED AS", "WIDEST THAT STARTS"),
            *(
                (
                    name,
                    f"{load_spec(name).memory_limit_bytes / _GB:g} GB",
                    load_spec(name).precision,
                    widest_precision(load_spec(name), device) or "none",
                )
                for name in model_names()
            ),
        ]
    )
    told = _together(device)
    limits = sum(load_spec(name).memory_limit_bytes for name in model_names())
    yield (
        f"their limits are {limits / _GB:g} GB, the device has {device.memory_bytes / _GB:.1f} GB: "
        f"{'all fit' if told['fits'] else 'they do not all fit'}"
    )


def _cells(name: str, found: Feasibility, near: Nearest) -> tuple[str, ...]:
    limit_s = found.contract.limit_s
    percent = f"p{found.contract.quantile * 100:g}"
    need = "-" if found.kv_need_tokens is None else str(found.kv_need_tokens)
    return (
        name,
        f"{found.precision} {found.weight_bytes / _GB:.1f} of {found.memory_limit_bytes / _GB:.3g} GB",
        f"{need} of {found.kv_room_tokens}",
        "-" if found.batch is None else str(found.batch),
        "-" if found.step_s is None else f"{found.step_s * 1e3:.1f} ms",
        "-" if found.rho is None else f"{found.rho:.0%}",
        "-" if found.latency is None else f"{percent} {found.latency.quantile_s:.2f} s",
        "-" if limit_s is None else f"{limit_s:g} s",
        "-" if near.rate_rps is None else f"{near.rate_rps:.0f} rps",
        found.fit,
        found.term,
    )


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def write_traces(question: Question, out: Path, seed: int | None) -> int:
    """Serve a profile's whole schedule in virtual time and write one line of JSON a request into `out`.

    Raises SettingsError where the model does not start or no request of that length fits it.
    """
    workload, device = question.workloads()[0], device_of(question.device)
    spec, contract = question.spec(workload.service), workload.contract
    if not loads(spec, device) or contract.prompt_tokens + contract.output_tokens > spec.max_model_len:
        found = assess(spec, device, contract)
        raise SettingsError(sentence(found, nearest_fit(spec, device, found)), hint="hxp-stack plan says more")
    replicates = workload.replicates
    warm_up = math.ceil(replicates.warm_up * contract.rate_rps)
    count = warm_up + replicates.count * replicates.requests
    moments = arrivals_s(contract.arrival, contract.rate_rps, count, workload.seed if seed is None else seed)
    requests = (Simulated(contract.prompt_tokens, contract.output_tokens, at_s) for at_s in moments)
    served = simulate(spec, device, limits_of(spec, device), requests)
    try:
        with out.open("w", encoding="utf-8") as file:
            for index, one in enumerate(served):
                replicate = -1 if index < warm_up else (index - warm_up) // replicates.requests
                file.write(json.dumps(_trace(index, replicate, one)) + "\n")
    except OSError as error:
        raise SettingsError(f"cannot write {out}: {error.strerror}") from None
    print(f"{count} requests in {served[-1].end_s:.1f} s of virtual time on {device.title}, simulated: {out}")
    return 0


def _trace(index: int, replicate: int, one: Simulated) -> dict[str, object]:
    """One request under the names that a load generator gives its readings; the network takes no time here."""
    moments_s = [round(at_s, 7) for at_s in one.tokens_s]
    return {
        "index": index,
        "replicate": replicate,
        "intended_s": round(one.arrival_s, 7),
        "asked_prompt_tokens": one.prompt_tokens,
        "asked_output_tokens": one.output_tokens,
        "tag": "simulated",
        "sent_s": round(one.arrival_s, 7),
        "end_s": moments_s[-1],
        "token_lo_s": moments_s,
        "token_hi_s": moments_s,
        "chunks": len(one.tokens_s),
        "prompt_tokens": one.prompt_tokens,
        "output_tokens": one.output_tokens,
        "cached_tokens": 0,
        "status": 200,
        "finish_reason": "length",
    }
