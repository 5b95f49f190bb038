"""The command `hxp-stack storage`: model artefacts brought in and verified, run artefacts kept, exported, cleared."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from reference_stack.errors import SettingsError, nearest
from reference_stack.services.ai_models.checkpoint import mismatches
from reference_stack.services.ai_models.model_spec import ModelSpec, load_spec, model_names
from reference_stack.services.infrastructure.artefacts import MANIFEST, files_of, flaws_of, format_flaws
from reference_stack.services.infrastructure.model_store import PART, import_model
from reference_stack.services.infrastructure.run_places import runs_at

ACTIONS = ("list", "import", "verify", "put", "export", "gc")
_TOLD_EVERY_S = 2.0
_DAY_S = 86_400.0
_FLAWED = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What follows `hxp-stack storage`: names are models or runs (verify, export) or folders (import, put)."""

    action: str
    models: Path
    runs: str  # a folder, or s3://BUCKET/PREFIX
    names: tuple[str, ...] = ()
    name: str = ""
    to: str = ""
    keep: int | None = None
    days: float | None = None
    as_json: bool = False


def run(asked: Asked) -> int:
    """Do what is asked; return the exit code: 0, 1 where something is not whole, 2 where something is wrong."""
    actions: Mapping[str, Callable[[Asked], int]] = {
        "list": _list,
        "import": _import,
        "verify": _verify,
        "put": _put,
        "export": _export,
        "gc": _gc,
    }
    return actions[asked.action](asked)


class _Told:
    """Progress for a person: a line on stderr every two seconds, none for what is quick."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told_s = time.monotonic()

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        if time.monotonic() >= self._told_s + _TOLD_EVERY_S:
            self._told_s = time.monotonic()
            print(f"{self._what}: {_size(done_bytes)} of {_size(total_bytes)}", file=sys.stderr, flush=True)


def spec_of(name: str) -> ModelSpec | None:
    """Return the model that `name` is: a service, or the folder in which the service looks for its weights."""
    for model in model_names():
        spec = load_spec(model)
        if name in (spec.name, spec.path.name):
            return spec
    return None


def _models(folder: Path) -> list[Path]:
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_dir() and path.name[0] != "."]


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    bytes: int
    manifest: bool
    safe: bool


def _row(path: Path) -> _Row:
    size = sum(file.lstat().st_size for file in files_of(path))
    return _Row(path.name, size, (path / MANIFEST).is_file(), not format_flaws(path))


def _list(asked: Asked) -> int:
    models = [_row(path) for path in _models(asked.models)]
    runs = runs_at(asked.runs).runs()
    if asked.as_json:
        rows = [{"name": one.name, "bytes": one.bytes, "files": len(one.files)} for one in runs]
        print(json.dumps({"models": [asdict(row) for row in models], "runs": rows}))
        return 0
    for row in models:
        state = "safe" if row.safe else "NOT SAFE"
        print(f"model  {row.name}  {_size(row.bytes)}  {state}{'' if row.manifest else ', no manifest'}")
    for one in runs:
        print(f"run    {one.name}  {_size(one.bytes)}  {len(one.files)} files")
    if not models and not runs:
        print(f"no models in {asked.models}, no runs in {asked.runs}")
    return 0


def _import(asked: Asked) -> int:
    source = Path(_one(asked, "a model's folder", "hxp-stack storage import FOLDER --name mixtral"))
    spec = spec_of(asked.name or source.resolve().name)
    name = spec.path.name if spec is not None else asked.name or source.resolve().name
    problems = [] if spec is None else list(mismatches(source, spec))
    if problems:
        hint = "give another --name where it is another model"
        raise SettingsError(f"{source} is not {spec.title if spec else name}: {'; '.join(problems)}", hint=hint)
    asked.models.mkdir(parents=True, exist_ok=True)
    target = import_model(source, asked.models, name, _Told(f"importing {name}"))
    note = "" if spec is not None else "; no service serves it, so its architecture was compared with nothing"
    print(f"{target}: imported{note}")
    return 0


def _verify(asked: Asked) -> int:
    store = runs_at(asked.runs)
    models = {path.name: path for path in _models(asked.models)}
    runs = {one.name: one for one in store.runs()}
    bad = 0
    for name in asked.names or [*models, *runs]:
        if name in models:
            found = flaws_of(models[name], _Told(name))
            spec = spec_of(name)
            wrong = [] if spec is None else list(mismatches(models[name], spec))
        elif name in runs:
            found, wrong = store.flaws(runs[name], _Told(name)), []
        else:
            known = [*models, *runs]
            hint = nearest(name, known) if known else "hxp-stack storage import or put brings one in"
            raise SettingsError(f"no model {name!r} in {asked.models}, and no run in {asked.runs}", hint=hint)
        lines = [f"{name}: {flaw.file} {flaw.problem}" for flaw in found] + [f"{name}: {text}" for text in wrong]
        bad += bool(lines)
        print("\n".join(lines) or f"{name}: whole")
    return _FLAWED if bad else 0


def _put(asked: Asked) -> int:
    folder = Path(_one(asked, "a run's folder", "hxp-stack storage put reports/latest"))
    kept = runs_at(asked.runs).put(folder, asked.name, _Told("reading"))
    print(f"{kept.name}: {len(kept.files)} files, {_size(kept.bytes)}")
    return 0


def _export(asked: Asked) -> int:
    name = _one(asked, "a run", "hxp-stack storage export RUN --to s3://BUCKET/PREFIX")
    if not asked.to:
        raise SettingsError("where to is not said", hint=f"hxp-stack storage export {name} --to FOLDER")
    from reference_stack.services.infrastructure.export import export  # fsspec takes a while to import

    store = runs_at(asked.runs)
    print(export(store, store.run(name), asked.to))
    return 0


def _gc(asked: Asked) -> int:
    for rest in asked.models.glob(f"{PART}*") if asked.models.is_dir() else ():
        print(f"{rest.name} is an import that was not finished; import it again, or remove {rest}")
    younger_s = None if asked.days is None else asked.days * _DAY_S
    swept = runs_at(asked.runs).clear(newest=asked.keep, younger_s=younger_s)
    print("\n".join([*(f"forgot {name}" for name in swept.runs), f"freed {_size(swept.bytes)}, {swept.objects} files"]))
    return 0


def _one(asked: Asked, what: str, hint: str) -> str:
    if len(asked.names) != 1:
        raise SettingsError(f"{asked.action} takes {what}", hint=hint)
    return asked.names[0]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
