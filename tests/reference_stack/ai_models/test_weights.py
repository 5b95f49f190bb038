"""Weights are told apart by the revision they were fetched at and a hash over their files."""

import hashlib
from pathlib import Path

import pytest

from reference_stack.services.ai_models import weights
from reference_stack.services.ai_models.weights import weights_facts
from reference_stack.services.infrastructure.artefacts import MANIFEST, write_manifest

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # pragma: allowlist secret


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model's folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    return folder


def test_a_folder_is_hashed_as_its_manifest_would_be(model: Path) -> None:
    """Without a manifest and with the one that storage writes, the hash is the same; a changed byte changes it."""
    bare = weights_facts(model)["weights_sha256"]
    manifest = write_manifest(model)

    assert manifest.name == MANIFEST == weights.MANIFEST
    assert weights_facts(model) == {"weights_sha256": bare}
    assert bare == hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.unlink()
    (model / "model.safetensors").write_bytes(b"\1" * 100)
    assert weights_facts(model)["weights_sha256"] != bare


def test_the_revision_is_what_the_download_noted(model: Path) -> None:
    """A download into a folder notes its commit; nonsense there is no revision."""
    notes = model / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "a.metadata").write_text("nonsense\n", encoding="utf-8")
    assert "model_revision" not in weights_facts(model)
    (notes / "config.json.metadata").write_text(f"{COMMIT}\netag\n1.0\n", encoding="utf-8")

    assert weights_facts(model)["model_revision"] == COMMIT


def test_a_snapshot_of_the_hub_is_named_for_its_revision(tmp_path: Path) -> None:
    """In the hub's own cache the folder's name is the commit, behind a link as well."""
    snapshot = tmp_path / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (tmp_path / "link").symlink_to(snapshot)

    assert weights_facts(tmp_path / "link") == {"model_revision": COMMIT}


def test_what_is_too_large_to_read_at_a_start_is_not_hashed(model: Path) -> None:
    """A gibibyte and more without a manifest has no hash: nothing is made up."""
    with (model / "huge.safetensors").open("wb") as stream:
        stream.truncate(weights.HASHED_BYTES + 1)

    assert weights_facts(model) == {}
