"""Which facts a reader of a record will ask for, and which of them the run does not know."""

from __future__ import annotations

from collections.abc import Mapping

from hxp_harness.report.hardware import NONE, UNKNOWN
from hxp_harness.target import Evidence

# path in manifest.json -> how it is called; which of them matter depends on what the run can stand for
_ALWAYS = {
    "environment.git": "commit of the harness",
    "environment.kernel": "kernel",
    "environment.processor": "processor",
    "environment.cpu_governor": "clock governor of the processor",
    "seeds.profile": "seed",
    "target.version": "version of the engine",
}
_REAL = {
    "target.flags": "flags of the engine",
    "target.device": "device of the engine",
    "target.model_revision": "revision of the model",
    "target.weights_sha256": "hash of the model's files",
}
_HARDWARE = {"environment.gpu_driver": "GPU driver", "environment.gpu_clock_sm": "GPU clocks"}


def unknown(manifest: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of what should be known of a run of this kind of evidence, and is not."""
    wanted = dict(_ALWAYS)
    if manifest.get("evidence") != Evidence.SIMULATED:
        wanted |= _REAL
    if manifest.get("evidence") == Evidence.MEASURED:
        wanted |= _HARDWARE
    return tuple(name for path, name in wanted.items() if not _known(manifest, path))


def _known(manifest: Mapping[str, object], path: str) -> bool:
    part, name = path.split(".")
    facts = manifest.get(part)
    told = facts.get(name) if isinstance(facts, Mapping) else None
    return told is not None and str(told) not in {"", UNKNOWN, NONE}
