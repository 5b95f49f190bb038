"""The reference and the code say the same: options, keys, columns, services, dependencies."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import hxp_harness.arguments
import reference_stack.arguments
from hxp_harness import pytest_plugin
from hxp_harness.errors import ExitCode
from hxp_harness.faults.toxic import KINDS
from hxp_harness.gates.facts import Asked, RunFacts
from hxp_harness.gates.grammar import parse_gate
from hxp_harness.gates.verdict import judge
from hxp_harness.metrics.definitions import METRICS
from hxp_harness.metrics.table import TraceTable
from hxp_harness.profile import Contract, Profile, Replicates
from hxp_harness.report import record
from hxp_harness.telemetry.definitions import SERVER_METRICS
from hxp_harness.telemetry.series import NUMBERS
from hxp_harness.trace import ErrorKind, Trace
from hxp_harness.units import UNITS
from reference_stack.catalogue import ServiceSpec, load_catalogue
from reference_stack.serve import ENTRIES, load

Reference = Callable[..., str]
FirstCells = Callable[[str], Iterator[str]]
_OPTION = re.compile(r"--[a-z][a-z-]*")


def _commands() -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for parser in (hxp_harness.arguments.parser(), reference_stack.arguments.parser()):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= {f"{parser.prog} {name}": command for name, command in action.choices.items()}
    return found


COMMANDS = _commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_those_of_the_program(name: str, reference: Reference, first_cells: FirstCells) -> None:
    """The page names every option of a command, and no other."""
    told = {_OPTION.match(cell) for cell in first_cells(reference("cli", f"### {name}"))}
    shown = [action for action in COMMANDS[name]._actions if action.help != argparse.SUPPRESS]
    options = {option for action in shown for option in action.option_strings}

    assert {match[0] for match in told if match} == {option for option in options if option[:2] == "--"} - {"--help"}


def test_no_command_is_told_that_does_not_exist(reference: Reference) -> None:
    """Every command that has a section exists; the others are under Planned."""
    assert set(re.findall(r"^### (hxp(?:-stack)? \S+)$", reference("cli"), re.MULTILINE)) == set(COMMANDS)


def test_sessions_are_those_of_nox(root: Path, reference: Reference, first_cells: FirstCells) -> None:
    """The page names every session of the noxfile, and no other."""
    noxfile = (root / "noxfile.py").read_text(encoding="utf-8")
    sessions = set(re.findall(r"^@nox\.session\ndef (\w+)", noxfile, re.MULTILINE))
    told = {
        cell.split(" -s ")[1].split()[0]
        for cell in first_cells(reference("cli", "## Sessions of ./nox"))
        if " -s " in cell
    }

    assert sessions
    assert told == sessions


@pytest.mark.parametrize(
    ("heading", "model"), [("## Top level", Profile), ("## `contract`", Contract), ("## `replicates`", Replicates)]
)
def test_profile_keys_are_told(
    heading: str, model: type[BaseModel], reference: Reference, first_cells: FirstCells
) -> None:
    """The page names every key of a profile, and no other."""
    keys = {field.alias or name for name, field in model.model_fields.items()}

    assert set(first_cells(reference("profile", heading))) == keys


def test_units_are_told(reference: Reference) -> None:
    """The page names every unit that a quantity may have."""
    assert all(f"`{unit}`" in reference("profile", "## Units") for unit in UNITS)


def test_bundled_profiles_are_told(root: Path, reference: Reference, first_cells: FirstCells) -> None:
    """The page names every bundled profile, and no other."""
    bundled = {file.stem for file in (root / "profiles").glob("*.yaml")}

    assert set(first_cells(reference("profile", "## Where profiles are found"))) == bundled


def test_metrics_are_told(reference: Reference, first_cells: FirstCells) -> None:
    """The page defines every metric, and no other."""
    assert set(first_cells(reference("metrics"))) == set(METRICS)


def test_figures_of_the_server_are_told(reference: Reference) -> None:
    """The page defines every figure that is made of the server's readings with its unit, and no other."""
    section = reference("metrics", "## Of the server, while the load lasts")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    told = {name.strip(): row[1] for row in rows[2:] for name in row[0].split(",")}

    assert told == {row.name: row.unit for row in SERVER_METRICS}


def test_columns_of_the_server_are_told(reference: Reference) -> None:
    """The page names every column of server.parquet."""
    lines = reference("run-folder", "## server.parquet").splitlines()
    told = re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in lines if line[:1] == "|"))

    assert set(told) == {*NUMBERS, "error"}


def test_columns_are_told(reference: Reference, first_cells: FirstCells) -> None:
    """The page names every column of traces.parquet in its order, and every kind of error."""
    fields = [field.name for field in dataclasses.fields(Trace)]
    kinds = [kind.value for kind in ErrorKind if kind]

    assert list(first_cells(reference("traces", "## Columns"))) == fields
    assert list(first_cells(reference("traces", "## Kinds of error"))) == ["error", *kinds]


def test_the_record_is_told(reference: Reference, first_cells: FirstCells) -> None:
    """The page names every key of run.json, those of its parts included."""
    text = reference("run-folder", "## run.json")
    keys = {field.alias or name for name, field in record.Record.model_fields.items()}
    parts = (record.Figures, record.GateResult, record.CheckResult, record.Replicate)

    assert set(first_cells(text)) == keys
    for part in parts:
        assert [key for key in part.model_fields if f"`{key}`" not in text] == []


def test_checks_are_told(reference: Reference, first_cells: FirstCells) -> None:
    """The page names every check of the measurement, and no other."""
    asked = Asked(rate_rps=1.0, prompt_tokens=1, output_tokens=1, replicates=2, requests=10)
    verdict = judge(TraceTable.from_traces([]), [parse_gate("error_rate <= 1 %")], RunFacts(asked))
    told = list(first_cells(reference("verdicts", "## Checks of the measurement")))

    assert verdict.outcome == "INVALID"
    assert [name for name in told if name not in {"send_lag", "usage"}] == [check.name for check in verdict.checks]


def test_exit_codes_are_told(reference: Reference) -> None:
    """The page has every exit code."""
    assert set(re.findall(r"^\| (\d) \|", reference("verdicts"), re.MULTILINE)) == {
        str(code.value) for code in ExitCode
    }


@pytest.mark.parametrize("spec", load_catalogue().values(), ids=lambda spec: spec.name)
def test_services_are_told(spec: ServiceSpec, reference: Reference) -> None:
    """The table of services has the facts of the catalogue."""
    row = next(line for line in reference("services").splitlines() if line.startswith(f"| `{spec.name}` |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    memory = "" if spec.memory_bytes is None else f"{spec.memory_bytes / 1e9:g} GB"
    target = "" if spec.targets is None else f"{spec.targets.latency_ms:g} ms at {spec.targets.rate_rps:g} rps"
    needs = " ".join(f"`{need}`" for need in spec.needs)

    assert cells[1:] == [spec.group, str(spec.port), str(spec.cpu_cores or ""), memory, target, needs]


@pytest.mark.parametrize("name", ENTRIES)
def test_settings_are_told(name: str, reference: Reference, first_cells: FirstCells) -> None:
    """The page names every setting of a service, those of its parts included, and no other."""
    heading = "## mixtral, hermes, openchat, phi3" if load_catalogue()[name].group == "ai_models" else f"## {name}"
    text = reference("configuration", heading)
    settings: type[BaseModel] = load(ENTRIES[name].settings)

    assert set(first_cells(text)) - {"key"} == set(settings.model_fields)
    for field in settings.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert [key for key in field.annotation.model_fields if f"`{key}`" not in text] == []


def test_dependencies_have_a_reason(root: Path, reference: Reference, first_cells: FirstCells) -> None:
    """Every dependency of pyproject.toml has a row with a reason, and no row is left of one that went."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    for group in project["dependency-groups"].values():
        wanted += [line for line in group if isinstance(line, str)]
    names = {re.split(r"[\[><=; ]", line)[0] for line in wanted}

    assert set(first_cells(reference("dependencies"))) == names


def test_toxics_are_told(reference: Reference, first_cells: FirstCells) -> None:
    """The page names every toxic and each of its attributes."""
    text = reference("plugin", "## Faults")

    assert list(first_cells(text)) == list(KINDS)
    assert [name for kind in KINDS.values() for name in kind if f"`{name}`" not in text] == []


def test_options_of_the_plugin_are_told(reference: Reference, first_cells: FirstCells) -> None:
    """The page names every option that the plugin adds to pytest, and every fixture."""
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    options = {name for group in parser._groups for option in group.options for name in option.names()}
    told = {
        match[0] for cell in first_cells(reference("plugin", "## Options of pytest")) if (match := _OPTION.match(cell))
    }
    fixtures = set(re.findall(r"^@pytest\.fixture.*\ndef (\w+)", inspect.getsource(pytest_plugin), re.MULTILINE))

    assert told == options
    assert set(first_cells(reference("plugin").split("## Faults")[0])) == fixtures


def test_words_of_the_architecture_are_explained(root: Path, reference: Reference) -> None:
    """Every word that ARCHITECTURE.md fixes has a line in the glossary."""
    text = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.split("## Words")[1].split("\n\n")[0].split("\n", 1)[1]
    words = [word.strip(" .\n") for word in section.split(",")]

    assert len(words) == 15
    assert [word for word in words if f"\n{word}\n: " not in reference("glossary")] == []
