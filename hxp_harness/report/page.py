"""A page about several runs, whatever it says: the same content as HTML, Markdown, JUnit and plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from hxp_harness.gates.outcome import Outcome
from hxp_harness.report import words
from hxp_harness.report.files import write_whole
from hxp_harness.report.text import code, one_line, table
from hxp_harness.report.text import markdown as safe
from hxp_harness.target import Evidence

TEMPLATE = "page.html.j2"
WIDTH = 100
_TAGS = {Outcome.FAIL: "failure", Outcome.INCONCLUSIVE: "failure", Outcome.INVALID: "error"}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table under its heading."""

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """`word` is the answer in large letters, `outcome` its colour and exit code; `story` says how it came about."""

    title: str
    word: str
    outcome: Outcome
    headline: str
    story: tuple[str, ...]
    evidence: Evidence
    sheets: tuple[Sheet, ...] = ()
    plots: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()


def write_pages(folder: Path, page: Page) -> list[Path]:
    """Write report.html, report.md and junit.xml into `folder`; raise InvalidRun when the disk does not take them."""
    return [
        write_whole(folder / "report.html", html(page)),
        write_whole(folder / "report.md", markdown(page)),
        write_whole(folder / "junit.xml", junit(page)),
    ]


def html(page: Page) -> str:
    """Return the page as one file that loads nothing."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["line"] = one_line
    return environment.get_template(TEMPLATE).render(
        page=page,
        evidence=words.EVIDENCE[page.evidence],
        plots={heading: Markup(svg) for heading, svg in page.plots.items()},  # noqa: S704 - ours, text escaped  # nosec B704
    )


def markdown(page: Page) -> str:
    """Return the page for a pull request."""
    parts = [
        f"# {page.word}: {safe(page.title)}",
        safe(page.headline),
        f"> **{page.evidence.value.upper()}.** {words.EVIDENCE[page.evidence]}",
        *(safe(line) for line in page.story),
    ]
    for sheet in page.sheets:
        rows = [[safe(cell) for cell in row] for row in sheet.rows]
        parts += [f"## {safe(sheet.heading)}", table(sheet.head, rows)]
    if page.commands:
        parts += ["What to type next:", "\n".join(f"    {code(command)}" for command, _ in page.commands)]
    return "\n\n".join(parts) + "\n"


def junit(page: Page) -> str:
    """Return the answer as one test case: nothing but PASS is green."""
    tag = _TAGS.get(page.outcome, "")
    said, name = one_line(f"{page.word}: {page.headline}"), one_line(page.title)
    tagged = Markup(tag)  # noqa: S704 - one of two words above  # nosec B704
    inner = Markup('<{0} type="{1}" message="{2}">{2}</{0}>').format(tagged, page.outcome.value, said) if tag else ""
    out = "" if tag else Markup("<system-out>{}</system-out>").format(said)
    return Markup(
        '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="{0}">\n'
        '<testsuite name="hxp" tests="1" failures="{1}" errors="{2}">\n'
        '<testcase classname="hxp" name="{0}" time="0">{3}{4}</testcase>\n</testsuite>\n</testsuites>\n'
    ).format(name, int(tag == "failure"), int(tag == "error"), inner or escape(""), out or escape(""))


def plain(page: Page) -> str:
    """Return the answer and its story as paragraphs of at most WIDTH columns, ending with a line break."""
    label = f"{page.evidence.value.upper()}: {words.EVIDENCE[page.evidence]}"
    parts = [f"{page.word}: {page.headline}", *page.story, label]
    return "\n\n".join(textwrap.fill(one_line(part), WIDTH, break_on_hyphens=False) for part in parts) + "\n"
