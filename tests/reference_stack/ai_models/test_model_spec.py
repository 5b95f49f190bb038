"""The four data files against what is published of the models and what the founding document allows."""

from __future__ import annotations

import pytest

from reference_stack.errors import SettingsError
from reference_stack.services.ai_models.model_spec import Architecture, load_spec, model_names


def test_the_four_models_are_there() -> None:
    """Each model of the catalogue has a data file, and there are four."""
    assert model_names() == ("mixtral", "hermes", "openchat", "phi3")
    assert [load_spec(name).name for name in model_names()] == list(model_names())


@pytest.mark.parametrize(
    ("name", "total_b", "active_b", "kv_bytes"),
    [
        ("mixtral", 46.70, 12.88, 131_072),
        ("hermes", 7.24, 7.24, 131_072),
        ("openchat", 7.24, 7.24, 131_072),
        ("phi3", 3.82, 3.82, 393_216 // 2),
    ],
)
def test_sizes_are_the_published_ones(name: str, total_b: float, active_b: float, kv_bytes: int) -> None:
    """Parameters and KV bytes that follow from the architecture are those that the model cards say."""
    spec = load_spec(name)

    assert spec.architecture.params_total / 1e9 == pytest.approx(total_b, abs=0.006)
    assert spec.architecture.params_active / 1e9 == pytest.approx(active_b, abs=0.006)
    assert spec.kv_bytes_per_token == kv_bytes


@pytest.mark.parametrize(
    ("name", "weights_gb"), [("mixtral", 47.0), ("hermes", 7.5), ("openchat", 4.15), ("phi3", 2.28)]
)
def test_weights_leave_room_in_the_limit(name: str, weights_gb: float) -> None:
    """In their precision the weights are smaller than the memory limit; in BF16 none leaves a tenth of it for KV."""
    spec = load_spec(name)

    assert spec.weight_bytes / 1e9 == pytest.approx(weights_gb, rel=0.01)
    assert spec.weight_bytes < spec.memory_limit_bytes
    assert 2 * spec.architecture.params_total > 0.9 * spec.memory_limit_bytes


def test_unknown_model_names_the_nearest() -> None:
    """A misspelt model is refused with the right spelling."""
    with pytest.raises(SettingsError, match="did you mean 'mixtral'"):
        load_spec("mixtrel")


def test_unknown_key_is_refused() -> None:
    """A misspelt size is an error, not a default."""
    fields = load_spec("phi3").architecture.model_dump()

    with pytest.raises(ValueError, match="layrs"):
        Architecture.model_validate({**fields, "layrs": 3})


def test_tied_embeddings_count_once() -> None:
    """A model whose head is its embedding has that matrix once."""
    plain = load_spec("phi3").architecture
    tied = plain.model_copy(update={"tied_embeddings": True})

    assert plain.params_total - tied.params_total == plain.vocab * plain.hidden


def test_every_model_needs_a_limit() -> None:
    """A model that the catalogue gives no memory limit cannot be sized."""
    spec = load_spec("phi3").model_copy(update={"name": "api_gateway"})

    with pytest.raises(SettingsError, match="no memory limit"):
        _ = spec.memory_limit_bytes
