"""The stack's own strict reading of a profile: what it means is what the harness means by the same file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hxp_harness.errors import UsageError
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.opened_target import asked_of
from hxp_harness.profile import Contract as HarnessContract
from hxp_harness.profile import Profile, Replicates, read_profile
from reference_stack.errors import SettingsError
from reference_stack.schemas.configuration.workload import (
    Contract,
    ProfileContract,
    ProfileReplicates,
    Workload,
    known_workloads,
    parse_contract,
    read_workload,
)

SMALL = """\
schema: 1
name: small
title: small
service: hermes
contract: {prompt_tokens: 16, output_tokens: 8, rate: 2 rps}
"""


@pytest.mark.parametrize("file", known_workloads().values(), ids=lambda file: file.stem)
def test_both_readers_understand_a_bundled_profile_alike(file: Path) -> None:
    """What the harness asks of a stack is what the stack reads in the profile itself."""
    profile = read_profile(file)

    asked = asked_of(profile, parse_gates(profile.gates))
    assert asked is not None
    assert Contract.model_validate(asked) == read_workload(file).contract


@pytest.mark.parametrize(
    "more",
    [
        "arrival: {kind: gamma, cv: 2.0}",
        "arrival: {kind: ramp, from: 1 rps, to: 3 rps}",
        "arrival: {kind: step, rates: [1 rps, 3 rps]}",
        "arrival: {kind: replay, file: x.txt}",
        "arrival: {kind: closed, concurrency: 3, think: 1 s}",
        "sessions: {turns: 2, think: 1 s}, cache: any",
        "prompt_lengths: {kind: normal, sd: 2}",
        "output_lengths: {kind: natural, at_most: 64}",
        "prefix: {tokens: 4}, cache: any",
        "prompts: {file: x.jsonl}",
    ],
)
def test_both_readers_take_what_neither_predicts(tmp_path: Path, more: str) -> None:
    """A profile of other arrivals is read by both; the harness asks for no prediction, and the stack declines one."""
    file = tmp_path / "small.yaml"
    file.write_text(SMALL.replace("2 rps}", f"2 rps, {more}}}") + "gates: [e2e p95 <= 1 s]\n", encoding="utf-8")
    profile, workload = read_profile(file), read_workload(file)

    assert asked_of(profile, parse_gates(profile.gates)) is None
    with pytest.raises(SettingsError, match="cannot be predicted"):
        _ = workload.contract


@pytest.mark.parametrize("more", ["arrival: poison", "arrival: {cv: 2}", "sessions: {turns: 1, think: 1 s}"])
def test_both_readers_refuse_what_is_no_arrival(tmp_path: Path, more: str) -> None:
    """A misspelt kind is refused by the one as by the other."""
    file = tmp_path / "small.yaml"
    file.write_text(SMALL.replace("2 rps}", f"2 rps, {more}}}") + "gates: [e2e p95 <= 1 s]\n", encoding="utf-8")
    with pytest.raises(UsageError):
        read_profile(file)
    with pytest.raises(SettingsError):
        read_workload(file)


def test_both_readers_know_the_same_keys() -> None:
    """A key that the harness takes is never refused by the stack, nor the other way round."""
    for ours, theirs in ((Workload, Profile), (ProfileContract, HarnessContract), (ProfileReplicates, Replicates)):
        assert {field.alias or name for name, field in ours.model_fields.items()} == {
            field.alias or name for name, field in theirs.model_fields.items()
        }


@pytest.mark.parametrize(
    ("gates", "limit_s", "quantile"),
    [
        ("[]", None, 0.95),
        ("[error_rate <= 0.1 %, ttft p95 <= 1 s]", None, 0.95),
        ("[e2e mean <= 1 s]", None, 0.95),
        ("[e2e p95 >= 1 s]", None, 0.95),
        ("[e2e p99 < 1500 ms, e2e p95 <= 1 s]", 1.5, 0.99),
        ("[e2e p99.9 <= 0.5 min]", 30.0, 0.999),
    ],
)
def test_the_limit_is_the_first_on_a_percentile_of_e2e(
    tmp_path: Path, gates: str, limit_s: float | None, quantile: float
) -> None:
    """Other gates are none of the prediction's business, and are let be."""
    file = tmp_path / "small.yaml"
    file.write_text(f"{SMALL}gates: {gates}\n", encoding="utf-8")
    contract = read_workload(file).contract

    assert contract.limit_s == limit_s
    assert contract.quantile == pytest.approx(quantile)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL.replace("rate:", "rat:"), "contract.rat: unknown key; did you mean 'rate'"),
        (SMALL + "replicates: {cont: 3}\n", "did you mean 'count'"),
        (SMALL + "gate: []\n", "did you mean 'gates'"),
        (SMALL.replace("2 rps", "2 per second"), "is no number with one of the units rps"),
        (SMALL.replace("16", "0"), "contract.prompt_tokens"),
        ("[1]", "dictionary"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_in_a_profile_is_named(tmp_path: Path, text: str, message: str) -> None:
    """The file, the key and the nearest right spelling."""
    file = tmp_path / "small.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(SettingsError, match=r"small\.yaml") as raised:
        read_workload(file)
    assert message in str(raised.value)


def test_a_contract_is_read_from_json() -> None:
    """What a harness passes is read strictly: a wrong key is named with the nearest right one."""
    assert parse_contract('{"prompt_tokens": 1, "output_tokens": 2, "rate_rps": 3}').limit_s is None
    with pytest.raises(SettingsError, match="did you mean 'limit_s'"):
        parse_contract('{"prompt_tokens": 1, "output_tokens": 2, "rate_rps": 3, "limits": 4}')
    with pytest.raises(SettingsError, match="--contract: Invalid JSON"):
        parse_contract("{")
