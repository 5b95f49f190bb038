"""Lengths have the distribution that was asked for and the contract's mean, or are refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats

from hxp_harness.errors import UsageError
from hxp_harness.lengths import OutputLengths
from hxp_harness.load.lengths import draw_lengths, read_lengths, tag

ADAPTER: TypeAdapter[OutputLengths] = TypeAdapter(OutputLengths)
SPREADS = (
    {"kind": "uniform", "from": 64, "to": 192},
    {"kind": "normal", "sd": 20.0},
    {"kind": "normal", "sd": 20.0, "at_most": 150},
    {"kind": "lognormal", "sd": 60.0},
    {"kind": "lognormal", "sd": 60.0, "at_most": 400},
)


def drawn(spread: object, count: int = 20_000, seed: int = 3, mean: int = 128) -> np.typing.NDArray[np.int64]:
    model = None if spread is None else ADAPTER.validate_python(spread)
    return draw_lengths(model, mean, count, np.random.default_rng(seed), "prompt_lengths")


def test_without_a_spread_all_are_the_mean() -> None:
    """A constant is a constant."""
    assert set(drawn(None, 50).tolist()) == {128}


def test_a_normal_and_a_lognormal_have_their_mean_and_spread() -> None:
    """Both parameters are in tokens, and the shape passes a Kolmogorov-Smirnov test before rounding matters."""
    normal, lognormal = drawn({"kind": "normal", "sd": 20.0}), drawn({"kind": "lognormal", "sd": 60.0})
    for lengths, sd in ((normal, 20.0), (lognormal, 60.0)):
        assert lengths.mean() == pytest.approx(128, rel=0.02)
        assert lengths.std() == pytest.approx(sd, rel=0.05)
    spread = np.random.default_rng(1).uniform(-0.5, 0.5, len(normal))  # undoes the rounding to whole tokens
    assert stats.kstest(normal + spread, stats.norm(128, 20).cdf).pvalue > 1e-3
    sigma = np.sqrt(np.log1p((60 / 128) ** 2))
    fitted = stats.lognorm(sigma, scale=128 * np.exp(-(sigma**2) / 2))
    assert stats.kstest(lognormal + spread, fitted.cdf).pvalue > 1e-3


def test_a_uniform_reaches_both_ends() -> None:
    """Every length between is as likely, the ends included."""
    lengths = drawn(SPREADS[0])
    assert (lengths.min(), lengths.max()) == (64, 192)
    assert stats.chisquare(np.bincount(lengths)[64:]).pvalue > 1e-3


@given(st.sampled_from(SPREADS), st.integers(0, 2**32))
def test_lengths_keep_their_bounds_and_their_seed(spread: dict[str, object], seed: int) -> None:
    """From 1 token to the most, whole, and the same from the same seed."""
    lengths = drawn(spread, 300, seed)
    assert lengths.min() >= 1
    assert lengths.max() <= int(str(spread.get("at_most", spread.get("to", 10**7))))
    assert lengths.tolist() == drawn(spread, 300, seed).tolist()


def test_empirical_lengths_are_those_of_the_file(tmp_path: Path) -> None:
    """Drawn with replacement, in their own shares."""
    file = tmp_path / "lengths.txt"
    file.write_text("# tokens\n64\n64\n64\n320\n")
    lengths = drawn({"kind": "empirical", "file": str(file)})
    assert set(lengths.tolist()) == {64, 320}
    assert (lengths == 64).mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(("text", "said"), [("64\n0\n", "line 2: '0'"), ("x\n", "line 1"), ("\n", "holds no lengths")])
def test_a_wrong_file_of_lengths_is_named(tmp_path: Path, text: str, said: str) -> None:
    """File and line stand in the refusal."""
    file = tmp_path / "lengths.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"lengths\.txt") as refusal:
        read_lengths(file)
    assert said in str(refusal.value)
    with pytest.raises(UsageError, match="cannot read"):
        read_lengths(tmp_path / "none")


def test_a_natural_end_asks_for_the_most() -> None:
    """Each answer may be as long as the most; a mean above that cannot be."""
    assert set(drawn({"kind": "natural", "at_most": 512}, 10).tolist()) == {512}
    with pytest.raises(UsageError, match="at_most: 100 is below the mean of 128"):
        drawn({"kind": "natural", "at_most": 100})


@pytest.mark.parametrize(
    ("spread", "said"),
    [
        ({"kind": "uniform", "from": 1, "to": 64}, "a mean of 3[0-9] tokens, the contract says 128"),
        ({"kind": "normal", "sd": 60.0, "at_most": 110}, "the contract says 128"),
        ({"kind": "lognormal", "sd": 0.001, "at_most": 5}, "hardly any length drawn lies between 1 and 5"),
    ],
)
def test_a_mean_off_the_contract_is_refused(spread: object, said: str) -> None:
    """A run of it would be INVALID, so it does not start."""
    with pytest.raises(UsageError, match=said):
        drawn(spread)


def test_a_tag_names_the_bucket_of_both_lengths() -> None:
    """Buckets end at powers of two."""
    assert tag(128, 64) == "in128-out64"
    assert tag(129, 1) == "in256-out1"
