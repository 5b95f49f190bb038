"""Profiles are strict: what is misspelt, doubled or of the wrong unit never becomes a run."""

from pathlib import Path

import pytest
import yaml

from hxp_harness.errors import UsageError
from hxp_harness.gates.facts import Asked
from hxp_harness.gates.gate import check_supported, parse_gates
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
