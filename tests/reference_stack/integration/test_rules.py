"""Rules, scrape configuration and dashboards: checked by Prometheus' own tool and by an independent parser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from reference_stack.__main__ import main
from reference_stack.catalogue import load_catalogue
from reference_stack.services.integration.metrics import embedded
from reference_stack.services.integration.metrics.dashboards import board
from reference_stack.services.integration.metrics.queries import BOARDS, QUERIES
from reference_stack.services.integration.metrics.rules import RECORDED, alerts, rules
from tests.reference_stack.integration.conftest import CACHE

CASES = Path(__file__).with_name("data") / "rules-cases.yaml"
_EXPRESSIONS = {
    **{query.name: query.over("1m") for query in QUERIES.values()},
    **RECORDED,
    **{alert.name: alert.expression for alert in alerts()},
}


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker, which comes with it."""
    prometheus = embedded.find(CACHE)
    if prometheus is None:
        pytest.skip("no Prometheus here: hxp-stack tools fetches one")
    return str(prometheus.with_name("promtool"))


def check(promtool: str, folder: Path, *words: str) -> str:
    done = subprocess.run([promtool, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_raise_what_they_should(promtool: str, tmp_path: Path) -> None:
    """Promtool evaluates every alert on series of known meaning: raised, and not raised."""
    (tmp_path / "rules.json").write_text(json.dumps(rules()))
    shutil.copy(CASES, tmp_path)

    assert "rules found" in check(promtool, tmp_path, "check", "rules", "rules.json")
    assert "SUCCESS" in check(promtool, tmp_path, "test", "rules", CASES.name)


def test_a_wrong_rule_fails_its_case(promtool: str, tmp_path: Path) -> None:
    """The cases see a limit that is off: they are no decoration."""
    changed = json.dumps(rules()).replace("gateway:errors:ratio5m > 0.01", "gateway:errors:ratio5m > 0.5")
    assert changed != json.dumps(rules())
    (tmp_path / "rules.json").write_text(changed)
    shutil.copy(CASES, tmp_path)

    done = subprocess.run(
        [promtool, "test", "rules", CASES.name], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "GatewayErrors" in done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    """No alert goes untested, but for the two models whose rule differs from a tested one by its number."""
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    tested = {row["alertname"] for case in cases for row in case.get("alert_rule_test", ())}

    assert {alert.name for alert in alerts()} - tested == {"ModelSlow_hermes", "ModelSlow_openchat"}


def test_every_alert_is_explained() -> None:
    """What to do about an alert stands in the guide."""
    guide = (Path(__file__).parents[3] / "docs" / "how-to" / "alerts.md").read_text(encoding="utf-8")

    assert [alert.name for alert in alerts() if f"`{alert.name.split('_')[0]}" not in guide] == []


def test_the_written_configuration_is_good(promtool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prometheus accepts what `hxp-stack metrics scrape` and `rules` write: all twelve at the host given."""
    out = ("--out", str(tmp_path))
    assert main(["metrics", "scrape", "--host", "127.0.0.9", *out]) == main(["metrics", "rules", *out]) == 0
    assert "SUCCESS" in check(promtool, tmp_path, "check", "config", "prometheus.json")
    written = json.loads((tmp_path / "prometheus.json").read_text())
    jobs = {job["job_name"]: job for job in written["scrape_configs"]}
    assert jobs.keys() == load_catalogue().keys()
    assert jobs["mixtral"]["static_configs"][0]["targets"] == ["127.0.0.9:11400"]
    assert jobs["monitoring"]["honor_labels"] is True  # its metrics are about other services
    assert written["global"]["scrape_interval"] == "15s"
    capsys.readouterr()
    assert main(["metrics", "rules"]) == 0
    assert json.loads(capsys.readouterr().out) == rules()


@pytest.mark.parametrize("name", _EXPRESSIONS)
def test_every_expression_is_promql(name: str) -> None:
    """An independent parser of PromQL reads every expression of rules and dashboards."""
    assert promql_parser.parse(_EXPRESSIONS[name])


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_what_grafana_imports(name: str, tmp_path: Path) -> None:
    """Each board has a uid, a panel a query in two columns, its data source as a variable, and no host."""
    main(["metrics", "dashboards", "--out", str(tmp_path)])
    made: dict[str, Any] = json.loads((tmp_path / f"hxp-{name}.json").read_text())

    assert made == json.loads(json.dumps(board(name)))
    assert made["uid"] == f"hxp-{name}"
    assert made["schemaVersion"] >= 39
    assert [panel["targets"][0]["expr"] for panel in made["panels"]] == [query.expression for query in BOARDS[name]]
    assert [(panel["gridPos"]["x"], panel["gridPos"]["w"]) for panel in made["panels"][:2]] == [(0, 12), (12, 12)]
    assert all(panel["datasource"]["uid"] == "${source}" for panel in made["panels"])
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|localhost", json.dumps(made["panels"]))
    variables = {variable["name"] for variable in made["templating"]["list"]}
    assert variables == ({"source", "model"} if name == "model" else {"source"})
