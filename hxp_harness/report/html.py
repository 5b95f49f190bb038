"""A run as one HTML file that loads nothing: verdict first, then what it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue

from hxp_harness.metrics.definitions import METRICS
from hxp_harness.report import words
from hxp_harness.report.record import Facts, Record
from hxp_harness.report.rosetta import HEAD, NOTE, Rows
from hxp_harness.report.telemetry import sentences
from hxp_harness.report.text import one_line, shown
from hxp_harness.telemetry.definitions import SERVER_METRICS
from hxp_harness.units import format_quantity

TEMPLATE = "report.html.j2"
LONGEST_FACT = 400  # characters of one value in a table of facts


def html(
    record: Record, plots: dict[str, str], run_dir: str, *, remark: str = "", others: Mapping[str, Rows] | None = None
) -> str:
    """Return the page. `plots` maps a heading to an SVG element of ours; `remark` says why some are missing.

    `others` are the tables of what other tools would report.

    Everything else, and above all what a server said, is escaped; the page's policy lets no script run.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["line"] = one_line
    return environment.get_template(TEMPLATE).render(
        record=record,
        title=words.title(record),
        headline=words.headline(record),
        more_reasons=words.more_reasons(record),
        meaning=words.MEANING[record.verdict],
        evidence=words.evidence(record),
        evidence_label=words.evidence_label(record),
        gates=words.gate_rows(record),
        checks=[(one_line(c.name), words.check_word(c), c.outcome, one_line(c.sentence)) for c in record.checks],
        metrics=_metrics(record),
        telemetry=words.metric_rows(record.telemetry),
        telemetry_says={name.name: name.says for name in SERVER_METRICS},
        telemetry_story=sentences(record),
        others=others or {},
        others_head=HEAD,
        others_note=NOTE,
        plots={heading: Markup(svg) for heading, svg in plots.items()},  # noqa: S704 - ours, text escaped  # nosec B704
        remark=remark,
        unknown=words.unknown(record),
        facts=_tables(record),
        commands=words.commands(run_dir),
    )


def flat(facts: Facts, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested facts as rows: the path of each value, and the value as people read it.

    Deeper than one level, an object of plain values is one row: a certificate has dozens of them.
    """
    rows: list[tuple[str, str]] = []
    for key, held in facts.items():
        path = f"{prefix}{one_line(key)}"
        if isinstance(held, dict) and prefix and not any(isinstance(one, dict) for one in held.values()):
            rows.append((path, fact(key, held)))
        elif isinstance(held, dict):
            rows += flat(held, f"{path} › ")  # noqa: RUF001 - the mark between levels
        else:
            rows.append((path, fact(key, held)))
    return rows


def fact(key: str, held: JsonValue) -> str:
    """Write one value in the unit that its name ends in; an object as its values by name."""
    if held is None or held in ("", [], {}):
        return words.UNKNOWN
    if isinstance(held, dict):
        return ", ".join(f"{one_line(name)} {fact(name, one)}" for name, one in held.items())
    if isinstance(held, list):
        return shown("\n".join(fact(key, one) for one in held), LONGEST_FACT)
    if isinstance(held, int | float) and not isinstance(held, bool):
        return _number(key, held)
    return shown(str(held), LONGEST_FACT)


def _number(key: str, number: float) -> str:
    if key.endswith("_unix_s"):
        return f"{number:.3f} s"
    if key.endswith("_per_s"):
        return f"{number:.4g}/s"
    if key.endswith("_bytes"):
        return f"{number / 2**20:.1f} MiB"
    for suffix, dimension in (("_s", "time"), ("_rps", "rate"), ("_ratio", "ratio"), ("_share", "ratio")):
        if key.endswith(suffix):
            return format_quantity(number, dimension)
    return str(number) if isinstance(number, int) else f"{number:.6g}"


def _metrics(record: Record) -> dict[str, list[words.MetricRow]]:
    """Return the rows about the service and those about the harness apart: a reader must not take one for the other."""
    about_harness = {metric.name for metric in METRICS.values() if metric.about == "harness"}
    rows = words.metric_rows({name: held for name, held in record.metrics.items() if held.n})
    return {
        "of the service": [row for row in rows if row.name not in about_harness],
        "of the harness itself": [row for row in rows if row.name in about_harness],
    }


def _tables(record: Record) -> dict[str, list[tuple[str, str]]]:
    certificate = record.certificate
    found = {
        "Certificate before the run": flat(certificate.before or {}),
        "Certificate after the run": flat(certificate.after or {}),
        "Profile": flat(record.profile),
        "Environment": flat(record.environment),
        "Load generator": flat(record.load),
        "Server's own counters": flat(record.server),
    }
    return {heading: rows for heading, rows in found.items() if rows}
