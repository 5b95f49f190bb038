"""Promises of the history: what the harness wrote is read, and the run that a question means comes first."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from reference_stack import __main__ as program
from reference_stack.errors import SettingsError
from reference_stack.history.documents import documents_of, medians_of
from reference_stack.history.record import read_runs
from reference_stack.history.search import RUNS, index, search
from reference_stack.orchestration import ports
from reference_stack.schemas.configuration.vector_database import VectorDatabaseSettings
from reference_stack.services.integration.vector_database.client import connect
from reference_stack.services.integration.vector_database.embedded import serving
from reference_stack.services.integration.vector_database.port import VectorDatabase

Write = Callable[..., Path]
SERVICES = ("mixtral", "hermes", "openchat", "phi3")
USUAL = {"ttft": 0.1, "e2e": 0.9, "tpot": 0.01, "error_rate": 0.0}


@pytest.fixture(params=["mock", "embedded"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorDatabase]:
    """A vector database of each kind, empty."""
    if request.param == "mock":
        yield connect(VectorDatabaseSettings(backend="mock", timeout_s=30))
        return
    rest, grpc = ports.reserve(), ports.reserve()
    settings = VectorDatabaseSettings(port=rest.port, grpc_port=grpc.port, folder=tmp_path / "v", timeout_s=30)
    async with serving(settings):
        vectors = connect(settings)
        yield vectors
        await vectors.close()
    rest.close()
    grpc.close()


@pytest.fixture
def hundred(write: Write) -> Path:
    """A hundred and twenty usual runs, and among them five with something wrong."""
    for number in range(120):
        write(f"usual-{number:03}", SERVICES[number % 4], 1 + number % 28, **USUAL)
    write("late", "mixtral", failed="ttft", **(USUAL | {"ttft": 3.0}))
    write("sluggish", "hermes", **(USUAL | {"ttft": 0.5}))
    write("crawling", "phi3", failed="tpot", **(USUAL | {"tpot": 0.3}))
    write("failing", "openchat", failed="error_rate", **(USUAL | {"error_rate": 0.2}))
    return write("doubtful", "mixtral", check="server_restarted", **USUAL)


@pytest.mark.parametrize(
    ("question", "run"),
    [
        ("slow first token on mixtral", "late"),
        ("first token slow hermes", "sluggish"),
        ("phi3 generates tokens slowly", "crawling"),
        ("openchat failed requests", "failing"),
        ("which run had errors", "failing"),
        ("server restarted during the run", "doubtful"),
        ("mixtral late time to frist token", "late"),
    ],
)
async def test_the_run_that_is_meant_comes_first(store: VectorDatabase, hundred: Path, question: str, run: str) -> None:
    """Among a hundred and twenty-five runs a question in plain words, slips included, finds the one that it means."""
    records, problems = read_runs(hundred)
    assert (len(records), problems) == (125, [])
    assert await index(store, records) == 125
    found = await search(store, question, 5)
    assert found[0].run == run, [row.text for row in found]
    assert len({row.run for row in found}) == len(found) == 5


async def test_a_run_is_indexed_once_and_again_when_it_changes(store: VectorDatabase, write: Write) -> None:
    """What is there as it is is left alone; a run that was judged again is replaced, with none of its old texts."""
    reports = write("r1", check="stationary", **USUAL)
    write("r2", **USUAL)
    assert await index(store, read_runs(reports)[0]) == 2
    assert await index(store, read_runs(reports)[0]) == 0
    assert await store.count(RUNS.name, {"run": "r1"}) == 2
    file = reports / "r1" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"checks": [], "verdict": "PASS"}))
    assert await index(store, read_runs(reports)[0]) == 1
    assert await store.count(RUNS.name, {"run": "r1"}) == 1
    assert await search(store, "stationary", 5, {"verdict": "INVALID"}) == []


async def test_a_search_can_be_narrowed(store: VectorDatabase, hundred: Path) -> None:
    """Only runs of the named service or verdict are found."""
    await index(store, read_runs(hundred)[0])
    found = await search(store, "slow first token", 20, {"service": "phi3", "verdict": "FAIL"})
    assert [row.run for row in found] == ["crawling"]


def test_a_metric_is_called_slow_only_where_it_is(write: Write) -> None:
    """The words of a complaint stand where a gate failed, or a value is far over its profile's usual one."""
    write("a", **USUAL)
    write("b", **(USUAL | {"ttft": 0.14}))
    write("c", **(USUAL | {"ttft": 0.4}))
    records, _ = read_runs(write("d", failed="e2e", **USUAL))
    medians = medians_of(records)
    slow = {
        (document.run, document.about)
        for record in records
        for document in documents_of(record, medians)
        if "slow" in document.text
    }
    assert slow == {("c", "ttft"), ("d", "e2e")}
    texts = [document.text for record in records for document in documents_of(record, medians) if document.about]
    assert texts == [
        "slow answer, high end to end latency on mixtral: e2e 900 ms, missed its limit",
        "slow first token, late time to first token on mixtral: ttft 400 ms, far over its usual 100 ms",
    ]


def test_what_cannot_be_read_is_named_and_left_out(write: Write) -> None:
    """A damaged, foreign or half-written record costs no other run, and is told with its place."""
    reports = write("good", **USUAL)
    for name, text in (("a", "{"), ("b", '{"schema": 2}'), ("c", "[]"), ("d", '{"schema": 1, "id": "x y"}')):
        (reports / name).mkdir()
        (reports / name / "run.json").write_text(text)
    (reports / "latest").symlink_to(reports / "good")
    records, problems = read_runs(reports)
    assert [record.id for record in records] == ["good"]
    assert [problem.removeprefix(f"{reports}/")[:10] for problem in problems] == [f"{n}/run.json" for n in "abcd"]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Without the folder the option is named that says where runs are."""
    with pytest.raises(SettingsError, match="no folder") as caught:
        read_runs(tmp_path / "none")
    assert "--runs" in caught.value.hint


def test_the_command_searches_and_lists(hundred: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without a stack the command answers from the folders, as text or as JSON."""
    common = ["--runs", str(hundred), "--folder", str(tmp_path / "stack")]
    assert program.main(["history", "search", "slow first token on mixtral", *common]) == 0
    assert capsys.readouterr().out.startswith("late  FAIL  mixtral  2026-01-01 12:00\n    slow first token")
    assert program.main(["history", "list", "--limit", "2", "--service", "phi3", "--json", *common]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["run"]["service"] for row in rows] == ["phi3", "phi3"]
    assert rows[0]["run"]["started"] >= rows[1]["run"]["started"]
    assert program.main(["history", "list", "--verdict", "INVALID", *common]) == 0
    assert capsys.readouterr().out.startswith("doubtful  INVALID")
    assert program.main(["history", "list", "--limit", "0", *common]) == 2
    assert program.main(["history", "search", *common]) == 2
    assert program.main(["history", "list", "slow", *common]) == 2
    assert program.main(["history", "list", "--service", "nobody", *common]) == 0
    assert "no run found" in capsys.readouterr().out


def test_a_running_stack_remembers_what_the_folders_forget(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that were listed or searched once while a stack ran are found in it when their folders are gone."""
    reports, stack = write("late", failed="ttft", **(USUAL | {"ttft": 3.0})), tmp_path / "stack"
    folder = ["--folder", str(stack)]
    common = ["--runs", str(reports), *folder]
    services = ["--only", "database", "--only", "vector_database"]
    hxp_stack = [sys.executable, "-m", "reference_stack"]
    subprocess.run([*hxp_stack, "up", *services, "--ports", "free", *folder], check=True, timeout=60)
    try:
        for _ in range(2):
            assert program.main(["history", "search", "slow first token on mixtral", "--json", *common]) == 0
            found = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert [row["run"] for row in found] == ["late"]
            assert program.main(["history", "list", "--json", *common]) == 0
            listed = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert [row["verdict"]["outcome"] for row in listed] == ["FAIL"]
            shutil.rmtree(reports)
            reports.mkdir()
    finally:
        subprocess.run([*hxp_stack, "down", *folder], check=True, timeout=60)


async def test_runs_are_read_page_by_page(store: VectorDatabase, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs the store has, each is known to be there."""
    monkeypatch.setattr("reference_stack.history.search._PAGE", 2)
    for number in range(5):
        reports = write(f"r{number}", **USUAL)
    seen: list[int] = []
    assert await index(store, read_runs(reports)[0], seen.append) == 5
    assert seen == [1] * 5
    assert await index(store, read_runs(reports)[0]) == 0
