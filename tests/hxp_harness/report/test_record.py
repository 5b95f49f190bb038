"""run.json: what is written is read back, and what is not a record is refused with the next thing to type."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hxp_harness.errors import InvalidRun, UsageError
from hxp_harness.report.files import write_whole
from hxp_harness.report.parts import facts, json_value
from hxp_harness.report.record import Figures, Record, read_record, record_schema, write_record
from hxp_harness.target import Evidence

MakeRun = Callable[..., Path]

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
TEXTS = st.text(st.characters())
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXTS,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(TEXTS, inner),
)


def test_a_judged_run_survives_the_disk(make_run: MakeRun) -> None:
    """A record is the same after it was written and read."""
    folder = make_run()
    record = read_record(folder)
    write_record(folder, record)
    assert read_record(folder) == record
    assert record.verdict == "PASS"
    assert [gate.text for gate in record.gates][:1] == ["e2e p95 <= 2000 ms"]
    assert len(record.replicates) == 4
    assert len(record.gates[0].estimates) == 4


def test_the_gated_metric_carries_its_confidence_bounds(make_run: MakeRun) -> None:
    """Low and high of a metric are those of the gate on it; a metric without a gate has none."""
    record = read_record(make_run())
    gate, e2e = record.gates[0], record.metrics["e2e"]
    assert (e2e.low, e2e.high) == (gate.low, gate.high)
    assert e2e.low is not None
    assert e2e.high is not None
    assert e2e.low < e2e.high
    assert record.metrics["send_lag"].low is None


def test_lower_ends_are_kept_beside_the_upper_ones(make_run: MakeRun) -> None:
    """A metric says both ends of what was observed, so that the client's own uncertainty can be seen."""
    e2e = read_record(make_run()).metrics["e2e"]
    assert e2e.p95 is not None
    assert e2e.lo.p95 is not None
    assert e2e.lo.p95 < e2e.p95


def test_a_run_without_a_request_has_a_record(make_run: MakeRun) -> None:
    """Nothing sent is INVALID, and says so."""
    record = read_record(make_run(sent=False))
    assert record.verdict == "INVALID"
    assert record.reasons
    assert record.replicates == ()


def test_infinity_becomes_null(make_run: MakeRun) -> None:
    """When more requests failed than a percentile leaves out, it is infinite, which JSON has no word for."""
    folder = make_run(failing=0.2)
    record = read_record(folder)
    assert record.metrics["e2e"].p95 is None
    assert record.gates[0].estimate is None
    assert "Infinity" not in (folder / "run.json").read_text(encoding="utf-8")
    assert "NaN" not in (folder / "run.json").read_text(encoding="utf-8")


@settings(max_examples=50)
@given(TREES)
def test_whatever_a_stage_found_becomes_strict_json(tree: object) -> None:
    """Facts of any kind can be written as JSON without NaN or infinity, and as UTF-8."""
    json.dumps(json_value(tree), allow_nan=False, ensure_ascii=False).encode("utf-8")


def test_facts_of_any_shape_are_an_object() -> None:
    """A dataclass, nothing and a bare value all become JSON objects."""
    assert facts(None) == {}
    assert facts(Evidence.TINY) == {"value": "tiny"}
    assert facts({1: (math.inf, Path("a"))}) == {"1": [None, "a"]}


def test_no_record_says_what_makes_one(tmp_path: Path) -> None:
    """A folder that holds no run is refused with the command that makes one."""
    with pytest.raises(UsageError, match=r"no run\.json") as caught:
        read_record(tmp_path)
    assert "hxp perf" in caught.value.hint


@pytest.mark.parametrize("name", ["traces.parquet", "traces.part"])
def test_traces_without_a_record_can_be_judged(tmp_path: Path, name: str) -> None:
    """A folder with traces alone is refused with the command that judges them."""
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=r"no run\.json") as caught:
        read_record(tmp_path)
    assert f"hxp judge {tmp_path}" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "damaged"),
        ('{"schema": NaN}', "NaN is no JSON"),
        ("\udcff", "damaged"),
        ("[]", "top"),
        ('{"schema": 2}', "schema"),
        ('{"schema": 1, "surprise": 1}', "not a record of this version"),
    ],
)
def test_a_damaged_record_names_file_and_cure(tmp_path: Path, text: str, says: str) -> None:
    """Whatever is wrong with run.json, the message names the file and the command that writes it again."""
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=says) as caught:
        read_record(tmp_path)
    assert str(tmp_path / "run.json") in caught.value.message
    assert "hxp judge" in caught.value.hint


def test_a_record_that_cannot_be_opened_is_a_usage_error(tmp_path: Path) -> None:
    """A folder in the record's place is named, not a traceback."""
    (tmp_path / "run.json").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        read_record(tmp_path)


def test_the_schema_names_every_field() -> None:
    """The exported JSON Schema has the record's keys as the file has them."""
    schema = record_schema()
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert {"schema", "verdict", "gates", "metrics", "certificate"} <= set(properties)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_figure_that_is_infinite_is_written_as_null() -> None:
    """Even a record made by hand is strict JSON."""
    record = Record(
        id="a",
        started="2026-11-20T10:00:00+00:00",
        verdict="FAIL",
        evidence=Evidence.TINY,
        metrics={"e2e": Figures(unit="s", n=1, p50=math.inf)},
    )
    assert json.loads(record.model_dump_json(by_alias=True))["metrics"]["e2e"]["p50"] is None


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    """When a file cannot be written the message says which and why, and no draft is left."""
    file = tmp_path / "run.json"
    file.mkdir()
    with pytest.raises(InvalidRun, match=r"cannot write .*run\.json"):
        write_whole(file, "text")
    assert [held.name for held in tmp_path.iterdir()] == ["run.json"]


FULL = """
import resource, sys
from pathlib import Path
from hxp_harness.errors import InvalidRun
from hxp_harness.report.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    write_whole(Path(sys.argv[1]), "longer than ten bytes")
except InvalidRun as error:
    print(error)
"""


def test_a_disk_that_is_full_keeps_the_old_file(tmp_path: Path) -> None:
    """When there is no room for the new file, the old one stays whole and the message gives a way out."""
    file = write_whole(tmp_path / "run.json", "old")
    argv = [sys.executable, "-c", FULL, str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert f"cannot write {file}" in done.stdout
    assert "--out" in done.stdout
    assert file.read_text(encoding="utf-8") == "old"
    assert [held.name for held in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_that_is_none_is_named() -> None:
    """A path through something that is no folder is InvalidRun, not a traceback."""
    with pytest.raises(InvalidRun, match="Not a directory"):
        write_whole(Path("/dev/null/run.json"), "text")
