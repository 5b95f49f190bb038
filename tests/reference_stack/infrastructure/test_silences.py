"""Silences outlive the service that was told of them, are there whole or not at all, and never hide what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.schemas.configuration.monitoring import MonitoringSettings
from reference_stack.services.infrastructure.monitoring.app import create_app
from reference_stack.services.infrastructure.monitoring.silences import NotKept, Silences
from reference_stack.services.integration.metrics.memory import MemoryMetrics
from tests.reference_stack.infrastructure.conftest import serving
from tests.reference_stack.infrastructure.test_alarm import alert


def test_a_silence_outlives_its_service(tmp_path: Path) -> None:
    """Told to one process and its successor asked: the alert is still silenced; lifted there, it is gone for good."""
    metrics = MemoryMetrics()
    metrics.firing = [alert()]
    settings = MonitoringSettings(silences_file=tmp_path / "data" / "silences.json", alert_interval_s=0.02)
    asked = {"matchers": {"service": "cache"}, "for_s": 60, "comment": "upgrade"}
    with serving(create_app(settings, metrics=metrics)) as url:
        made = httpx.post(f"{url}/silences", json=asked).json()
    with serving(create_app(settings, metrics=metrics)) as url:
        assert httpx.get(f"{url}/alerts").json()["silences"] == [made]
        assert [row["silenced"] for row in httpx.post(f"{url}/check").json()["alerts"]] == [True]
        assert httpx.delete(f"{url}/silences/{made['id']}").status_code == 200
    with serving(create_app(settings, metrics=metrics)) as url:
        assert httpx.get(f"{url}/alerts").json()["silences"] == []


def test_what_has_ended_is_forgotten(tmp_path: Path) -> None:
    """A silence that ended while nobody ran is not in force, and the next change takes it out of the file."""
    file = tmp_path / "silences.json"
    silences = Silences(file)
    silences.add({"a": "b"}, 1e-9, "")
    kept = silences.add({"a": "c"}, 60, "")

    assert [one.id for one in Silences(file).in_force(time.time())] == [kept.id]
    assert [one["id"] for one in json.loads(file.read_text())["silences"]] == [kept.id]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"silences": [{"id": 1}]}', '{"silences": [], "more": 1}', "\udcff"]
)
def test_a_file_that_is_none_is_put_aside(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read silences nobody, is said, is kept for people to read, and does not stop the service."""
    file = tmp_path / "silences.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))

    silences = Silences(file)

    assert silences.in_force(0) == []
    assert "cannot be read and are not in force" in caplog.text
    assert file.with_name("silences.json.unreadable").read_bytes() == content.encode("utf-8", "surrogateescape")
    silences.add({"a": "b"}, 60, "")
    assert len(Silences(file).in_force(time.time())) == 1


def test_a_disk_that_does_not_take_it_is_said(tmp_path: Path) -> None:
    """What would be forgotten is refused with a 503: neither a new silence nor the end of another is in force."""
    folder = tmp_path / "data"
    settings = MonitoringSettings(silences_file=folder / "silences.json")
    asked = {"matchers": {"service": "cache"}, "for_s": 60}
    with serving(create_app(settings, metrics=MemoryMetrics())) as url:
        made = httpx.post(f"{url}/silences", json=asked).json()
        (folder / "silences.json").unlink()
        folder.rmdir()
        folder.write_text("a file where the folder was")
        for reply in (httpx.post(f"{url}/silences", json=asked), httpx.delete(f"{url}/silences/{made['id']}")):
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert "the silences cannot be kept in silences.json" in reply.json()["detail"]
        assert httpx.get(f"{url}/alerts").json()["silences"] == [made]


def test_a_file_that_cannot_be_moved_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Even one that can be neither read nor moved (a folder in the way) does not stop the service."""
    (tmp_path / "silences.json").mkdir()
    (tmp_path / "silences.json.unreadable").write_text("in the way")

    assert Silences(tmp_path / "silences.json").in_force(0) == []
    assert "stays where it is" in caplog.text


_ADDING = """
import sys
from pathlib import Path
from reference_stack.services.infrastructure.monitoring.silences import Silences
silences = Silences(Path(sys.argv[1]))
for number in range(1000):
    print(silences.add({"n": str(number)}, 3600, "").id, flush=True)
"""


def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """Killed while it writes, the file is whole and has every silence that was answered."""
    file = tmp_path / "silences.json"
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", _ADDING, str(file)], stdout=subprocess.PIPE, text=True) as adding:
            assert adding.stdout is not None
            answered = {adding.stdout.readline().strip() for _ in range(7)}
            adding.kill()
        assert answered <= {one.id for one in Silences(file).in_force(time.time())}


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), min_size=1, max_size=3), st.text(max_size=20))
def test_what_was_said_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, matchers: dict[str, str], comment: str
) -> None:
    """Whatever the labels and the comment, another process reads the silence as it was made."""
    file = tmp_path_factory.getbasetemp() / "any-silences.json"
    file.unlink(missing_ok=True)

    made = Silences(file).add(matchers, 60, comment)

    assert Silences(file).in_force(time.time()) == [made]


def test_without_a_file_they_last_as_long_as_the_process() -> None:
    """With none configured a silence is in force all the same; one that is unknown cannot be lifted."""
    silences = Silences(None)
    made = silences.add({"a": "b"}, 60, "")
    assert silences.in_force(time.time()) == [made]
    assert not silences.lift("other")
    assert silences.lift(made.id)
    assert silences.in_force(time.time()) == []


def test_not_kept_names_the_reason(tmp_path: Path) -> None:
    """The error of a disk that refuses has the system's own word for it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotKept, match=r"Not a directory|File exists"):
        Silences(tmp_path / "file" / "silences.json").add({"a": "b"}, 60, "")
