"""What other tools would have reported stands in every report, with its formulas on request."""

from __future__ import annotations

import pytest

from hxp_harness.cli import main
from hxp_harness.metrics.peers import PEERS, rows
from hxp_harness.report.rosetta import page
from hxp_harness.report.views import write_views
from tests.hxp_harness.report.conftest import MakeRun


def test_the_page_has_every_row_with_its_formula_and_source(make_run: MakeRun) -> None:
    """Each tool's own name, formula and place in its source, beside the figure."""
    text = page(make_run(count=2, requests=50))
    assert all(f"## {row.subject}" in text for row in rows())
    assert all(row.formula in text and row.source in text for row in rows())
    assert all(f"{peer.name} {peer.version}" in text for peer in PEERS.values())


def test_the_command_prints_it(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    """`hxp report RUN_DIR --rosetta` prints the page and writes nothing."""
    folder = make_run(count=2, requests=50)
    before = sorted(path.name for path in folder.iterdir())
    assert main(["report", str(folder), "--rosetta"]) == 0
    assert "request_latency" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == before


def test_both_reports_show_it(make_run: MakeRun) -> None:
    """One table of p95 in Markdown, all of them in HTML; where nothing was traced, nothing is claimed."""
    folder = make_run(count=2, requests=50)
    write_views(folder)
    markdown, html = ((folder / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))
    for text in (markdown, html):
        assert "other tools" in text
        assert "GuideLLM 0.8.1" in text
    assert "request_start" in html
    empty = make_run(traces=False)
    (empty / "traces.parquet").unlink()
    write_views(empty)
    assert "GuideLLM" not in (empty / "report.md").read_text(encoding="utf-8")
