"""Profiles are strict: what is misspelt, doubled or of the wrong unit never becomes a run."""

from pathlib import Path

import pytest
import yaml

from hxp_harness.arrivals import Ramp, Replay, Step
from hxp_harness.errors import UsageError
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import check_supported
from hxp_harness.gates.grammar import parse_gates
from hxp_harness.lengths import Empirical, Prompts
from hxp_harness.profile import Profile, find_profile, known_profiles, read_profile

GOOD = """\
schema: 1
name: tiny
title: "Tiny"
service: mixtral
contract:
  prompt_tokens: 8
  output_tokens: 4
  rate: 10 rps
  timeout: 5 s
gates:
  - e2e p95 <= 2000 ms
replicates: {count: 2, requests: 100, warm_up: 500 ms}
"""


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    """Write a profile and give back its path."""
    return Writer(tmp_path / "tiny.yaml")


class Writer:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, text: str) -> Path:
        self.file.write_text(text, encoding="utf-8")
        return self.file


def test_a_profile_is_read(write: Writer) -> None:
    """Quantities become base units, and what is left out has its default."""
    profile = read_profile(write(GOOD))

    assert profile.contract.rate_rps == 10.0
    assert profile.contract.timeout_s == 5.0
    assert profile.contract.stream
    assert profile.replicates.warm_up_s == 0.5
    assert profile.gates == ("e2e p95 <= 2000 ms",)


def test_a_resolved_profile_reads_back(write: Writer) -> None:
    """What a run writes into its folder, is the same profile."""
    profile = read_profile(write(GOOD))

    text = yaml.safe_dump(profile.model_dump(mode="json", by_alias=True))

    assert read_profile(write(text)) == profile


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("gates:", "gate:", "unknown key; did you mean 'gates'?"),
        ("  rate:", "  rat:", "unknown key; did you mean 'rate'?"),
        ("warm_up: 500 ms", "warmup: 500 ms", "unknown key; did you mean 'warm_up'?"),
        ("10 rps", "10 s", "'10 s' is a time, not a rate"),
        ("10 rps", "true", "'True' is not a quantity"),
        ("10 rps", "0 rps", "greater than 0"),
        ("count: 2", "count: 1", "greater than or equal to 2"),
        ("schema: 1", "schema: 2", "Input should be 1"),
        ("name: tiny", "name: Tiny!", "should match pattern"),
        ("name: tiny", "name: ../tiny", "should match pattern"),
        ("  - e2e p95 <= 2000 ms", "  []", "at least 1 item"),
        ("title:", "schema: 1\ntitle:", "the key 'schema' stands twice"),
        ("title:", "- title:", "is not YAML"),
    ],
)
def test_a_slip_is_named(write: Writer, old: str, new: str, says: str) -> None:
    """A misspelt or doubled key, a wrong unit or a number out of range names itself and the nearest right one."""
    assert old in GOOD
    file = write(GOOD.replace(old, new, 1))

    with pytest.raises(UsageError) as refusal:
        read_profile(file)

    assert says in str(refusal.value)
    assert str(file) in str(refusal.value)


SHAPES = {
    "gamma": "{kind: gamma, cv: 2.5}",
    "ramp": "{kind: ramp, from: 5 rps, to: 15 rps}",
    "step": "{kind: step, rates: [5 rps, 10 rps, 15 rps]}",
    "replay": "{kind: replay, file: recorded.txt}",
    "closed": "{kind: closed, concurrency: 8, think: 100 ms}",
    "constant": "constant",
    "poisson": "{kind: poisson}",
}


@pytest.mark.parametrize("kind", SHAPES)
def test_every_arrival_is_read_and_reads_back(write: Writer, kind: str) -> None:
    """What a run writes of its arrivals is the same process; a file is found from anywhere."""
    file = write(GOOD.replace("  timeout:", f"  arrival: {SHAPES[kind]}\n  timeout:"))
    profile = read_profile(file)
    assert profile.contract.arrival.kind == kind
    if isinstance(profile.contract.arrival, Replay):
        assert profile.contract.arrival.file == file.parent / "recorded.txt"
    text = yaml.safe_dump(profile.model_dump(mode="json", by_alias=True))
    assert read_profile(write(text)) == profile


def test_every_spread_is_read_and_reads_back(write: Writer) -> None:
    """What a run writes of its lengths and texts is the same; a file is found from anywhere."""
    for lines in (
        "prompt_lengths: {kind: lognormal, sd: 3.5, at_most: 40}\n  output_lengths: {kind: natural, at_most: 9}",
        "prompt_lengths: {kind: empirical, file: lengths.txt}\n  prefix: {tokens: 4, groups: 2}\n  cache: any",
        "prompts: {file: texts.jsonl}\n  output_lengths: {kind: normal, sd: 1.5}",
    ):
        file = write(GOOD.replace("  timeout:", f"  {lines}\n  timeout:"))
        profile = read_profile(file)
        assert profile.contract.varied
        for part in (profile.contract.prompt_lengths, profile.contract.prompts):
            if isinstance(part, Empirical | Prompts):
                assert part.file.parent == file.parent
        text = yaml.safe_dump(profile.model_dump(mode="json", by_alias=True))
        assert read_profile(write(text)) == profile


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("prompt_lengths: {kind: uniform, from: 4, to: 14}", "prompt_lengths: the mean of 4 to 14 is not 8"),
        ("prompt_lengths: {kind: uniform, from: 9, to: 7}", "from: 9 is above to: 7"),
        ("prompt_lengths: {kind: natural, at_most: 9}", "'natural'"),
        ("output_lengths: {kind: normal, ds: 9}", "unknown key; did you mean 'sd'?"),
        ("prefix: {tokens: 4, group: 2}", "unknown key; did you mean 'groups'?"),
        ("prefix: {tokens: 4}", "cached after its first use: cache: any"),
        ("prefix: {tokens: 8}\n  cache: any", "prefix.tokens: 8 is no part of 8 prompt_tokens"),
        ("prompts: {file: x}\n  prompt_lengths: {kind: normal, sd: 1}", "prompts and prompt_lengths exclude"),
        ("arrival: poison", "'poison'"),
        ("arrival: {kind: replya, file: x}", "unknown kind 'replya'; did you mean 'replay'?"),
        ("arrival: {kind: gamma}", "arrival.gamma.cv: Field required"),
        ("arrival: {kind: gamma, cvv: 1}", "unknown key; did you mean 'cv'?"),
        ("arrival: {kind: gamma, cv: 0}", "greater than 0"),
        ("arrival: {kind: ramp, from: 5, to: 15 rps}", "from: 5 has no unit; for example from: 5 rps"),
        ("arrival: {kind: ramp, from: 5 rps, to: 25 rps}", "the mean of this ramp is 15 rps: rate: 15 rps"),
        ("arrival: {kind: step, rates: [5 rps, 16]}", "rates: 16 has no unit"),
        ("arrival: {kind: step, rates: [10 rps]}", "at least 2 items"),
        ("arrival: {kind: closed, concurrency: 0}", "greater than or equal to 1"),
        ("arrival: {kind: closed, concurrency: 1, think: 3}", "think: 3 has no unit"),
        ("sessions: {turns: 1, think: 1 s}", "greater than or equal to 2"),
        ("sessions: {turn: 2, think: 1 s}", "unknown key; did you mean 'turns'?"),
        ("sessions: {turns: 2, think: 1 s}", "cannot be cold: cache: any"),
        ("sessions: {turns: 2, think: 1 s}\n  cache: any\n  api: completions", "sessions need api: chat"),
        (
            "sessions: {turns: 2, think: 1 s}\n  cache: any\n  arrival: {kind: closed, concurrency: 1}",
            "exclude each other",
        ),
    ],
)
def test_a_slip_in_an_arrival_is_named(write: Writer, line: str, says: str) -> None:
    """Parameters are as strict as all else; two that contradict each other name the way out."""
    with pytest.raises(UsageError) as refusal:
        read_profile(write(GOOD.replace("  timeout:", f"  {line}\n  timeout:")))
    assert says in str(refusal.value)


@pytest.mark.parametrize("kind", ["ramp", "step"])
def test_a_pattern_keeps_its_shape_at_another_rate(write: Writer, kind: str) -> None:
    """Twice the rate is twice the rate at every moment."""
    contract = read_profile(write(GOOD.replace("  timeout:", f"  arrival: {SHAPES[kind]}\n  timeout:"))).contract
    faster = contract.at_rate(20.0)
    assert isinstance(contract.arrival, Ramp | Step)
    assert isinstance(faster.arrival, Ramp | Step)
    assert faster.rate_rps == 20.0
    assert faster.arrival.corners_rps == tuple((first * 2, last * 2) for first, last in contract.arrival.corners_rps)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just words"])
def test_no_mapping_is_no_profile(write: Writer, text: str) -> None:
    """A file of something else is refused by name."""
    with pytest.raises(UsageError, match="is not a mapping"):
        read_profile(write(text))


def test_a_missing_file_names_the_known_profiles(tmp_path: Path) -> None:
    """A path that is not there is answered with the profiles that are."""
    with pytest.raises(UsageError, match="cannot read the profile") as refusal:
        read_profile(tmp_path / "none.yaml")

    assert "mixtral" in refusal.value.hint


def test_an_unknown_name_has_a_nearest() -> None:
    """A misspelt name is answered with the one that was meant."""
    with pytest.raises(UsageError) as refusal:
        find_profile("mixtrl")

    assert "'mixtral" in refusal.value.hint


@pytest.mark.parametrize("name", sorted(known_profiles()))
def test_every_profile_here_can_be_judged(name: str) -> None:
    """Each profile of this repository reads, and its gates can be decided by the run that it asks for."""
    profile = find_profile(name)

    assert isinstance(profile, Profile)
    for gate in parse_gates(profile.gates):
        check_supported(gate, Asked.of(profile.contract, profile.replicates))
