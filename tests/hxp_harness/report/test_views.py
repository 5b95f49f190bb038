"""The views as a whole, from the folder of a run: complete, self-contained, and safe from what a server says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from hxp_harness.errors import UsageError
from hxp_harness.metrics.table import TraceTable
from hxp_harness.report.html import fact, flat
from hxp_harness.report.plots import latency_over_time
from hxp_harness.report.record import CheckResult, read_record, write_record
from hxp_harness.report.views import write_views

MakeRun = Callable[..., Path]
HOSTILE = '</style></svg></td><script>alert("x")</script><img src=x onerror=alert(1)> "\' & \x1b[31m'
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that what opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [held for name, held in attrs if name == "id" and held]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(run: Path) -> Page:
    found = Page((run / "report.html").read_text(encoding="utf-8"))
    assert found.open == []
    return found


def test_all_views_are_written_and_agree(make_run: MakeRun) -> None:
    """Every view of a run tells the same verdict, and names the evidence."""
    run = make_run()
    written = write_views(run)
    assert [file.name for file in written] == ["report.html", "report.md", "junit.xml", "allure-results"]
    html = page(run)
    assert "PASS" in html.text
    assert "SIMULATED" in html.text
    assert "e2e p95 <= 2000 ms" in html.text
    assert "hxp judge" in html.text
    assert "# PASS" in (run / "report.md").read_text(encoding="utf-8")
    assert ET.parse(run / "junit.xml").getroot().tag == "testsuites"


def test_the_page_has_every_picture_and_asks_the_network_for_nothing(make_run: MakeRun) -> None:
    """Six small pictures with ids of their own; nothing refers outside the file, and the policy would forbid it."""
    run = make_run(failing=0.001)
    write_views(run)
    text = (run / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 6
    for picture in pictures:
        assert len(picture) < 150_000
        ET.fromstring(picture.replace("xlink:", ""))
    html = page(run)
    assert len(html.ids) == len(set(html.ids))
    policy = next(held for name, held in html.attributes if name == "content" and held and "default-src" in held)
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    for name, held in html.attributes:
        if name in {"src", "href", "xlink:href"}:
            assert held is not None
            assert held.startswith(("#", "data:image/png;base64,"))
    assert re.findall(r"url\((?!#)", text) == []
    assert "@import" not in text


@pytest.mark.owasp("LLM05:2025")
def test_what_a_server_says_cannot_break_out(make_run: MakeRun) -> None:
    """Reasons, sentences, names and facts full of markup are shown as text, and no script or image comes of them."""
    run = make_run(failing=0.02, title=HOSTILE)
    record = read_record(run)
    gate = record.gates[0].model_copy(update={"text": HOSTILE, "sentence": HOSTILE})
    changed = record.model_copy(
        update={
            "id": HOSTILE,
            "reasons": (HOSTILE, HOSTILE + "2"),
            "gates": (gate, *record.gates[1:]),
            "checks": (CheckResult(name=HOSTILE, outcome="failed", sentence=HOSTILE),),
            "environment": {HOSTILE: HOSTILE},
            "metrics": {HOSTILE: record.metrics["e2e"]} | record.metrics,
        }
    )
    write_record(run, changed)
    write_views(run)
    html = page(run)
    assert "script" not in html.tags
    assert "img" not in html.tags
    assert not [name for name, _ in html.attributes if name.startswith("on")]
    assert '<script>alert("x")</script>' in html.text
    assert "\x1b" not in html.text
    assert ET.parse(run / "junit.xml").getroot().tag == "testsuites"


def test_a_run_of_nothing_has_views_that_say_so(make_run: MakeRun) -> None:
    """An interrupted run without traces is INVALID in every view, with its reason and without pictures."""
    run = make_run(sent=False, traces=False)
    write_views(run)
    html = page(run)
    assert "INVALID" in html.text
    assert "There are no pictures: the run left no traces.parquet." in html.text
    assert "no gate counts" in html.text
    assert "svg" not in html.tags
    assert "# INVALID" in (run / "report.md").read_text(encoding="utf-8")


def test_empty_and_damaged_traces_cost_only_the_pictures(make_run: MakeRun) -> None:
    """The report of a run whose traces cannot be read says why there is nothing to see."""
    run = make_run(sent=False)
    write_views(run)
    assert "holds no request" in page(run).text
    (run / "traces.parquet").write_bytes(b"not parquet")
    write_views(run)
    assert "There are no pictures:" in page(run).text


@pytest.mark.parametrize("gates", [("itl p95 <= 500 ms", "tpot p95 <= 50 ms"), ("throughput >= 30 rps",)])
def test_other_gates_have_their_pictures(make_run: MakeRun, gates: tuple[str, ...]) -> None:
    """A gate on any latency has a distribution; one on a rate is in the picture of the verdict."""
    run = make_run(gates=gates, failing=0.0005)
    write_views(run)
    html = page(run)
    for gate in gates:
        assert (f"Distribution under the gate {gate}" in html.text) == ("p95" in gate)
        assert gate in html.text


def test_a_target_that_only_fails_has_a_report(make_run: MakeRun) -> None:
    """When no request was answered the pictures show failures, and none that needs an answer."""
    run = make_run(failing=1.1)
    write_views(run)
    text = page(run).text
    assert "Latency over time" in text
    assert "failed (" in text
    assert "Distribution under" not in text


def test_what_an_early_end_cut_off_has_not_failed(make_run: MakeRun) -> None:
    """Requests that were open when the run was stopped are shown as that, beside those that failed."""
    run = make_run(failing=0.0)
    table = TraceTable.read(run / "traces.parquet")
    kinds = ["cut", *["unfinished"] * 3]
    error = np.concatenate([table.error[: -len(kinds)], np.array(kinds, dtype=table.error.dtype)])

    picture = latency_over_time(read_record(run), replace(table, error=error))

    assert "failed (1)" in picture
    assert "open when the run was stopped (3)" in picture


def test_a_far_outlier_makes_the_axis_logarithmic(make_run: MakeRun) -> None:
    """A server ten times slower than its limit is shown whole, and its verdict's picture is cut at three limits."""
    run = make_run(median_s=30.0, count=2, requests=200)
    write_views(run)
    assert read_record(run).verdict == "FAIL"
    assert "300 %" in page(run).text


def test_views_can_be_made_again(make_run: MakeRun) -> None:
    """The same run makes the same page, byte by byte."""
    run = make_run()
    write_views(run)
    before = (run / "report.html").read_bytes()
    write_views(run)
    assert (run / "report.html").read_bytes() == before
    assert not [file.name for file in run.iterdir() if file.name.startswith(".")]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    """No record, no views, and nothing is written."""
    with pytest.raises(UsageError, match=r"no run\.json"):
        write_views(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "held", "said"),
    [
        ("send_lag_p99_s", 0.0004, "0.4 ms"),
        ("t0_unix_s", 1.7e9, "1700000000.000 s"),
        ("events_per_s", 1234.5, "1234/s"),
        ("peak_rss_bytes", 2**21, "2.0 MiB"),
        ("achieved_rps", 75.0, "75 rps"),
        ("sent_ratio", 1.0, "100 %"),
        ("requests", 12345678, "12345678"),
        ("scale", 1.5, "1.5"),
        ("ok", True, "True"),
        ("reasons", [], "–"),  # noqa: RUF001 - the dash of an empty cell
        ("gates", ["a", "b"], "a\nb"),
        ("device", "H200", "H200"),
        ("clients", [{"due": 3, "cpu_s": 0.5}, {"due": 4, "host": "b"}], "due 3, cpu_s 500 ms\ndue 4, host b"),
    ],
)
def test_facts_are_said_in_the_unit_of_their_name(key: str, held: object, said: str) -> None:
    """A value's name ends in its unit, and the page says it so that it can be read."""
    assert fact(key, held) == said  # type: ignore[arg-type]  # lists of text are JSON


def test_nested_facts_become_paths() -> None:
    """A fact inside another is shown with the way to it, and deep ones together in one row."""
    found = flat({"a": {"b": {"c": 1, "d_s": 2.0}, "e": {"f": {"g": 3}}, "h": 4}})
    assert found == [("a › b", "c 1, d_s 2000 ms"), ("a › e › f", "g 3"), ("a › h", "4")]  # noqa: RUF001
