"""A search is written down whole and told in words and pictures, whatever a server said."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from hxp_harness.capacity.point import Point
from hxp_harness.capacity.record import CAPACITY_FILE, CapacityRecord, headline, read_capacity, story, write_capacity
from hxp_harness.capacity.views import tell_capacity, write_capacity_views
from hxp_harness.errors import UsageError
from hxp_harness.gates.outcome import Outcome

MakePoint = Callable[..., Point]


def test_a_record_comes_back_as_it_was_written(record: CapacityRecord, tmp_path: Path) -> None:
    """capacity.json holds every point and every finding."""
    write_capacity(tmp_path, record)

    assert read_capacity(tmp_path) == record
    assert (record.passes_at_rps, record.fails_at_rps, record.wall_rps) == (70, 120, 200)
    assert (record.knee_rps, record.cliff_rps) == (50, 120)


@pytest.mark.parametrize("text", ["", "{}", "[1]"])
def test_a_damaged_record_is_told(tmp_path: Path, text: str) -> None:
    """A file that is no record, and a folder without one, are usage errors that say what to do."""
    with pytest.raises(UsageError, match="cannot read"):
        read_capacity(tmp_path)
    (tmp_path / CAPACITY_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is damaged"):
        read_capacity(tmp_path)


def test_the_answer_is_one_sentence(record: CapacityRecord, point: MakePoint) -> None:
    """The headline says both ends, or which is missing, and whether what was asked is reached."""
    asked = replace(record, expected_rps=60.0).with_points(record.points)
    beyond = replace(record, expected_rps=130.0).with_points(record.points)
    between = replace(record, expected_rps=100.0).with_points(record.points)
    lost = record.with_points((point(9, Outcome.INVALID, lost=True),))

    assert headline(record) == "It passes at 70 rps and fails at 120 rps: the capacity lies between."
    assert headline(asked).startswith("60 rps is reached: it passes at 70 rps.")
    assert headline(beyond).startswith("130 rps is not reached: it fails at 120 rps.")
    assert headline(between).startswith("Whether 100 rps is reached is not certain.")
    assert (asked.verdict, beyond.verdict, between.verdict) == (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE)
    assert headline(record.with_points(())) == "No rate was shown to pass or to fail."
    assert headline(record.with_points(record.points[:3])) == "It passes at 70 rps; no rate was shown to fail."
    assert headline(record.with_points(record.points[3:])) == "It fails at 120 rps; no rate was shown to pass."
    assert headline(lost).startswith("No run could be measured")


def test_the_story_tells_knee_cliff_wall_and_prediction(record: CapacityRecord) -> None:
    """Each finding is explained once, and what was not found is not."""
    told = " ".join(story(record))

    assert all(word in told for word in ("knee is at 50 rps", "cliff is at 120 rps", "From 200 rps on", "predicted 80"))
    stopped = story(record.with_points((), "stopped by hand"))
    assert "stopped by hand" in stopped[-1]
    assert not any("knee" in line for line in stopped)
    assert "without closing in" in story(record.with_points(record.points * 5))[-1]


def test_pages_show_everything_and_run_nothing(record: CapacityRecord, tmp_path: Path) -> None:
    """The page has the pictures and every run, hostile text stays text; the case of JUnit is green only for a PASS."""
    write_capacity(tmp_path, record)
    written = {path.name: path.read_text(encoding="utf-8") for path in write_capacity_views(tmp_path)}

    page = written["report.html"]
    assert page.count("<svg") == 2
    assert "passes at 70 rps" in page
    assert "SIMULATED" in page
    assert "<script" not in page
    assert "<script" not in written["report.md"].replace("\\<", "")
    assert "run-70" in written["report.md"]
    assert ET.fromstring(written["junit.xml"]).find(".//failure") is None
    assert "It passes at 70 rps" in tell_capacity(tmp_path)


@pytest.mark.parametrize(("points", "tag"), [((), "failure"), ((0,), "error")])
def test_what_is_no_pass_is_not_green(
    record: CapacityRecord, point: MakePoint, tmp_path: Path, points: tuple[int, ...], tag: str
) -> None:
    """Nothing found is a failure to CI, nothing measured an error, and a page without points has no pictures."""
    write_capacity(tmp_path, record.with_points(tuple(point(9, Outcome.INVALID, lost=True) for _ in points)))
    page, _, junit = (path.read_text(encoding="utf-8") for path in write_capacity_views(tmp_path))

    assert "<svg" not in page
    assert ET.fromstring(junit).find(f".//{tag}") is not None
