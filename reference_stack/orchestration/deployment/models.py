"""The model services: an engine is a command line, and what it can stand for goes into the offer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import yaml

from reference_stack.errors import SettingsError, nearest
from reference_stack.orchestration import readiness
from reference_stack.orchestration.deployment import weights
from reference_stack.orchestration.deployment.offer import Offer
from reference_stack.orchestration.deployment.room import Room
from reference_stack.orchestration.deployment.want import Want
from reference_stack.orchestration.forked import Trade, vllm_trade
from reference_stack.orchestration.supervisor import Unit
from reference_stack.schemas.common.program import Program
from reference_stack.schemas.configuration.model import Runner

_OURS = {"device", "upstream", "limits"}  # options that are no settings of the simulation
_VLLMS = {*_OURS, "runner"}  # options that real vLLM is told


def model(room: Room, name: str) -> tuple[list[Unit], Offer]:
    """Return the unit that serves model `name` on the wanted engine, and what it offers.

    The first real engine on a machine is installed here: minutes. Raises SettingsError or NotReady.
    """
    from reference_stack.services.ai_models.engine import READY_PATH, prepare
    from reference_stack.services.ai_models.model_spec import load_spec

    want, port, url = room.want, room.face_port(name), room.face_url(name)
    served = _served(room, name)
    spec = load_spec(name).model_copy(update={"runner": runner_of(room, name)})
    if want.engine == "vllm":
        _check_options(name, want)
        if want.weights == "real":
            weights.check(spec)
    prepared = prepare(
        spec,
        want.engine,
        want.weights,
        port=port,
        settings_file=room.settings_file(name),
        cache=want.cache,
        device=want.options.get("device", "") if want.engine == "vllm" else want.device,
        say=room.say,
    )
    offer = Offer(
        health_url=f"{url}{READY_PATH}",
        metrics_url=f"{url}/metrics",
        base_url=f"{url}/v1",
        api_model=name,
        engine=want.engine,
        evidence=prepared.evidence,
        facts=prepared.facts,
        feasibility=_feasibility(want, name, prepared.device),
    )
    if prepared.takes_fd:
        return [served], offer
    probe = readiness.http(f"{url}{READY_PATH}")
    limits = room.limits(name, by_rlimit=want.weights == "tiny")
    program, ready_s, after = prepared.program, prepared.ready_s, _before(room, name)
    trade = _trade(room, program)
    unit = Unit(name, program, probe, after=after, ready_s=ready_s, limits=limits, trade=trade, kept_up=True)
    return [unit], offer


def runner_of(room: Room, name: str) -> Runner:
    """Return whether model `name` generates or has embeddings. Raises SettingsError for what is neither."""
    from reference_stack.services.ai_models.model_spec import load_spec

    said = room.want.options.get("runner") or room.configured.said[name].get("runner", load_spec(name).runner)
    known: tuple[Runner, ...] = get_args(Runner)
    for each in known:
        if said == each:
            return each
    raise SettingsError(f"{name}: --set runner={said} is no runner", hint=nearest(str(said), known))


def _trade(room: Room, program: Program) -> Trade | None:
    """Several toys import vLLM once and are forked; one alone is started as vLLM's own command is."""
    if room.want.weights != "tiny" or len(room.models) == 1:
        return None
    return vllm_trade(Path(program.argv[0]).with_name("python"))


def _check_options(name: str, want: Want) -> None:
    """Refuse what real vLLM would not be told: its flags follow from the model's row alone."""
    for key in want.options:
        if key not in _VLLMS:
            known = f"change {name}.yaml for lengths and precision; {nearest(key, _VLLMS)}"
            raise SettingsError(f"{name}: --set {key} is not for --engine vllm", hint=known)


def _feasibility(want: Want, name: str, device_name: str = "") -> dict[str, str]:
    """Whether the contract can be met; nothing where none is known, or the model is not run as its row says."""
    toy = want.engine == "vllm" and want.weights == "tiny"
    asked = name in (want.services or want.names)
    if want.contract is None or toy or not asked or set(want.options) - {"device", "limits"}:
        return {}
    from reference_stack.services.ai_models.feasibility import assess
    from reference_stack.services.ai_models.model_spec import load_spec
    from reference_stack.services.ai_models.nearest import nearest_fit, sentence
    from reference_stack.services.ai_models.physics import find_device

    spec, device = load_spec(name), find_device(device_name or want.device)
    found = assess(spec, device, want.contract)
    nearest = nearest_fit(spec, device, found)
    row = {"verdict": found.fit.value, "sentence": sentence(found, nearest)}
    return row if nearest.rate_rps is None else row | {"rate_rps": f"{nearest.rate_rps:.6g}"}


def _served(room: Room, name: str) -> Unit:
    """The simulated engine; its settings are written in any case."""
    chosen = {key: yaml.safe_load(value) for key, value in room.want.options.items() if key not in _OURS}
    own = {"service": name, "device": room.want.device, "runner": runner_of(room, name)}
    unit = room.service(name, {**own, **chosen}, health="/health")
    drains_s = float(chosen.get("shutdown_timeout_s", 0.0))
    return replace(unit, grace_s=unit.grace_s + drains_s)


def _before(room: Room, name: str) -> tuple[str, ...]:
    """Engines on one GPU start one after another: each measures what memory is free."""
    if room.want.weights == "tiny":
        return ()
    models = room.models
    place = models.index(name)
    return models[place - 1 : place] if place else ()
