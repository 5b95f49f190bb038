"""The conformance suite's own promises: departures cannot outlive their reason, and a shape is exact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from suites.conformance import departures, shapes
from suites.conformance.shapes import differences

SUITE = Path(departures.__file__).parent
NOBODY = "http://127.0.0.1:9/v1"


def collect(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Collect the shapes group for a server that nobody asks, with the departures in `file`."""
    argv = [
        sys.executable,
        "-m",
        "pytest",
        str(SUITE / "test_shapes.py"),
        "--target",
        NOBODY,
        "--departures",
        str(file),
    ]
    return subprocess.run(
        [*argv, "--collect-only", "-q", "-p", "no:randomly", *words], capture_output=True, text=True, check=False
    )


def row(test: str) -> str:
    return f"- {{engine: target, test: '{test}', reason: it is so}}\n"


def test_a_departure_that_names_no_test_is_refused(tmp_path: Path) -> None:
    """A row whose test is gone ends the run before it starts, and is named."""
    file = tmp_path / "own.yaml"
    file.write_text(row("test_shapes.py::test_ping") + row("test_shapes.py::test_no_such_thing"), encoding="utf-8")
    done = collect(file)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_no_such_thing" in done.stderr
    assert "test_ping" not in done.stderr


def test_departures_of_other_groups_are_left_alone(tmp_path: Path) -> None:
    """Where only one group runs, rows of the others are no mistake."""
    file = tmp_path / "own.yaml"
    file.write_text(row("test_shapes.py::test_ping") + row("test_key.py::test_a_wrong_key*"), encoding="utf-8")

    assert collect(file).returncode == pytest.ExitCode.OK


@pytest.mark.parametrize(
    "text",
    [
        "- {engine: sim, test: x}",
        "- {engine: sim, test: x, reason: ''}",
        "- x",
        "{engine: sim}",
        "- {engine: sim, test: x, reason: y, z: 1}",
    ],
)
def test_a_departure_without_a_reason_is_refused(tmp_path: Path, text: str) -> None:
    """A row has an engine, a test and a reason, and nothing else."""
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(pytest.UsageError, match="must have engine, test and reason"):
        departures.read(file, "sim")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A list of departures that cannot be read is a usage error with its path."""
    with pytest.raises(pytest.UsageError, match=r"none\.yaml"):
        departures.read(tmp_path / "none.yaml", "sim")


def test_a_departure_must_fail(request: pytest.FixtureRequest) -> None:
    """What a departure covers is expected to fail by an assertion, strictly: a pass fails the suite."""
    ours = departures.Departure("sim", "test_conformance.py::test_a_departure_must*", "it is so")
    unused = departures.expect([ours], [request.node])
    mark = request.node.get_closest_marker("xfail")
    request.node.own_markers.remove(mark)

    assert unused == []
    assert mark.kwargs == {"strict": True, "raises": AssertionError, "reason": "it is so"}


def test_parameters_are_matched_as_they_are_written(request: pytest.FixtureRequest) -> None:
    """A bracket in a row is a bracket; only * stands for anything."""
    name = "test_conformance.py::test_parameters_are_matched_as_they_are_written"

    assert departures.Departure("sim", name, "").covers(request.node)
    assert not departures.Departure("sim", f"{name}[x]", "").covers(request.node)
    assert not departures.Departure("sim", "test_conformance.py::test_[p]*", "").covers(request.node)


def test_our_departures_are_few_and_whole() -> None:
    """Our own list is read, is about the simulation, and real vLLM needs none."""
    rows = departures.read(departures.OURS, "sim")

    assert 0 < len(rows) <= 25
    assert departures.read(departures.OURS, "vllm") == []


@pytest.mark.parametrize(
    ("value", "shape", "found"),
    [
        ({"a": 1}, {"a": int}, []),
        ({"a": True}, {"a": int}, ["answer.a is True, not int"]),
        ({"a": 1, "b": 2}, {"a": int}, ["answer has b besides"]),
        ({}, {"a": int}, ["answer lacks a"]),
        ({"a": None}, {"a": (str, None)}, []),
        ({"a": 1}, {"a": (str, None)}, ["answer.a is 1, not (<class 'str'>, None)"]),
        ([1, "x"], [int], ["answer[1] is 'x', not int"]),
        ([1], [], ["answer is not empty"]),
        ([], [int], []),
        (7, [int], ["answer is 7, not a list"]),
        (7, {"a": int}, ["answer is 7, not an object"]),
        ("y", "x", ["answer is 'y', not x"]),
    ],
)
def test_differences_from_a_shape(value: object, shape: object, found: list[str]) -> None:
    """Each field that is missing, is too much or has another type is named with its place."""
    assert differences(value, shape) == found


def test_the_shapes_are_those_of_the_recording() -> None:
    """A shape of ours says no less than a recorded answer has: its fields are all named."""
    assert {"kv_transfer_params", "prompt_text", "usage", "service_tier"} <= set(shapes.chat())
    assert "prompt_text" not in shapes.completion()
