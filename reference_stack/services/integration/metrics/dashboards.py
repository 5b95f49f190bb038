"""The Grafana dashboards, made by Grafana's own SDK out of the queries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from reference_stack.services.integration.metrics.queries import BOARDS, Query, Unit

_TITLES = {
    "overview": "hxp: the stack",
    "model": "hxp: models",
    "gateway": "hxp: gateway",
    "run": "hxp: a run, as the server saw it",
}
_UNITS: Mapping[Unit, str] = {
    "requests/s": "reqps",
    "tokens/s": "cps",
    "seconds": "s",
    "ratio": "percentunit",
    "bytes": "bytes",
    "count": "short",
    "cores": "short",
    "up": "bool_on_off",
}
_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_WIDTH, _HEIGHT = 12, 8  # of 24 columns


def board(name: str) -> dict[str, Any]:
    """Return dashboard `name` as Grafana imports it: the data source is a variable, nothing names a host."""
    built = (
        dashboard.Dashboard(_TITLES[name])
        .uid(f"hxp-{name}")
        .tags(["hxp"])
        .editable()
        .time("now-30m", "now")
        .refresh("15s")
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )
    if name == "model":
        names = dashboard.QueryVariable("model").label("model").datasource(_SOURCE)
        built = built.with_variable(
            names.query("label_values(vllm:num_requests_running, model_name)").multi(True).include_all(True)
        )
    for query in BOARDS[name]:
        built = built.with_panel(_panel(query))
    made: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(built.build()))
    return made


def _panel(query: Query) -> timeseries.Panel:
    target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).ref_id("A")
    panel = timeseries.Panel().title(query.title).description(query.name).unit(_UNITS[query.unit]).datasource(_SOURCE)
    return panel.span(_WIDTH).height(_HEIGHT).fill_opacity(8).with_target(target)
