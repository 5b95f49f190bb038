"""Every name of the founding document has code, tests and a page, or is marked as planned."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

# The founding document's own words, in its order.
NAMES = {
    "Services": """mixtral, hermes, openchat, phi3, api_gateway, monitoring, configuration, storage, database,
        vector_database, cache, metrics""",
    "Foundation": """base service classes, service-aligned modules, independent scaling, cpu_cores and memory limits,
        architectural traceability, error handling and recovery""",
    "Testing": """component testing, service testing, testing utilities, integration tests, performance tests,
        security tests, external service mocking""",
    "Orchestration": """deployment scaffolds, operational logic, orchestration utilities, health check framework,
        lifecycle management, metric exporters and observability""",
    "Schemas": "common schemas, api schemas, configuration schemas, validation frameworks, environment management",
    "Configuration": "system configuration, network configuration, performance configuration",
    "Performance targets": """mixtral target, hermes target, openchat target, phi3 target, api_gateway target,
        monitoring intervals""",
    "External dependencies": "vLLM, FastAPI, PostgreSQL, Qdrant, Redis, Prometheus, Grafana",
    "Success criteria": """functional success criteria, performance success criteria, quality success criteria,
        integration success criteria, coverage above 95 %""",
    "Deliverables": """modular library package, API reference, usage guides and examples, architectural diagrams,
        deployment guides, test coverage reports, performance benchmarks, security assessment, integration validation,
        package distribution, deployment scripts, integration guides, migration procedures, code generation templates,
        development environment setup, debugging and profiling tools, performance monitoring utilities,
        developer training materials, best practices guides, troubleshooting documentation,
        community support resources, branching strategy""",
    "Quality gates": "development quality gates, integration quality gates, deployment quality gates",
}
EVERY = [(group, name.strip()) for group, names in NAMES.items() for name in names.split(",")]
ROOT = Path(__file__).parents[2]
PROGRAM = runpy.run_path(str(ROOT / "docs" / "traceability.py"))
GROUPS: dict[str, dict[str, dict[str, Any]]] = PROGRAM["read"]()
ROWS = [(name, entry) for rows in GROUPS.values() for name, entry in rows.items()]


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_every_name_has_an_entry(group: str, name: str) -> None:
    """No name of the founding document is forgotten."""
    assert name in GROUPS[group]


@pytest.mark.parametrize(("name", "entry"), ROWS, ids=[name for name, _ in ROWS])
def test_an_entry_is_whole_or_says_what_is_planned(name: str, entry: dict[str, Any]) -> None:
    """A name has code, tests and a page; what lacks one says what is planned, and where that is tracked."""
    assert set(entry) <= {"code", "tests", "page", "planned"}, name
    if not (entry.get("code") and entry.get("tests") and entry.get("page")):
        assert "planned" in entry, f"{name} lacks code, tests or a page"
    if "planned" in entry:
        assert "issue" in entry["planned"], f"{name}: say which issue plans it"


@pytest.mark.parametrize(("name", "entry"), ROWS, ids=[name for name, _ in ROWS])
def test_every_path_exists(name: str, entry: dict[str, Any]) -> None:
    """What an entry points at is there."""
    paths = [*entry.get("code", []), *entry.get("tests", []), *([entry["page"]] if "page" in entry else [])]

    assert [path for path in paths if not (ROOT / path).exists()] == [], name


@pytest.mark.parametrize(("name", "entry"), ROWS, ids=[name for name, _ in ROWS])
def test_what_is_there_is_not_empty(name: str, entry: dict[str, Any]) -> None:
    """A folder that an entry points at holds tests, or code that is more than the package's one line."""
    for path in map(ROOT.joinpath, entry.get("tests", [])):
        assert path.is_file() or any(path.rglob("test_*.py")), f"{name}: no tests in {path}"
    for path in map(ROOT.joinpath, entry.get("code", [])):
        files = [path] if path.is_file() else [file for file in path.rglob("*.*") if file.name != "__init__.py"]
        package = path / "__init__.py"
        assert files or (package.is_file() and len(package.read_text().splitlines()) > 3), f"{name}: nothing in {path}"


def test_the_page_is_made_from_the_file() -> None:
    """The page that people read says what the file says."""
    assert PROGRAM["PAGE"].read_text(encoding="utf-8") == PROGRAM["page"](GROUPS), "run: python docs/traceability.py"
