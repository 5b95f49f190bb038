"""The environments that the project ships are valid, and production is what the founding document says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from reference_stack.catalogue import load_catalogue
from reference_stack.schemas.configuration.layers import Effective, lay, read_file
from reference_stack.services.ai_models.model_spec import load_spec

FOLDER = Path(__file__).parents[2] / "profiles" / "environments"
FOUNDING_DOCUMENT = Path(__file__).with_name("founding-document.yaml")
TOLD = yaml.safe_load(FOUNDING_DOCUMENT.read_text(encoding="utf-8"))
FILES = sorted(FOLDER.glob("*.yaml"))


def _read(name: str) -> Effective:
    return lay([read_file(FOLDER / f"{name}.yaml")])


def test_the_four_environments_are_there() -> None:
    """A laptop, the pipeline, the GPU server and production each have a file."""
    assert [file.stem for file in FILES] == ["ci", "gpu-server", "local", "production"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_environment_is_valid(file: Path) -> None:
    """Every key of an environment is a setting of a service, with a value that it may have."""
    assert len(_read(file.stem).services) == 12


def test_production_is_as_the_founding_document_has_it() -> None:
    """Hosts, ports and sizes of production are the founding document's."""
    services = {name: settings.model_dump() for name, settings in _read("production").services.items()}

    assert len(TOLD["production"]) == 5
    for name, facts in TOLD["production"].items():
        assert facts.items() <= services[name].items(), name


@pytest.mark.parametrize("name", TOLD["catalogue"])
def test_the_catalogue_is_as_the_founding_document_has_it(name: str) -> None:
    """Ports, cores, memory and targets are the founding document's."""
    spec = load_catalogue()[name]
    facts = asdict(spec) | asdict(spec.targets) if spec.targets else {}

    assert TOLD["catalogue"][name].items() <= facts.items()


@pytest.mark.parametrize("name", TOLD["model_path"])
def test_models_lie_where_the_founding_document_says(name: str) -> None:
    """The weights of each model are looked for at the founding document's path."""
    assert str(load_spec(name).path) == TOLD["model_path"][name]


def test_production_addresses_stand_in_one_file() -> None:
    """No other environment names a host but 127.0.0.1."""
    assert [file.stem for file in FILES if "192.168." in file.read_text(encoding="utf-8")] == ["production"]
