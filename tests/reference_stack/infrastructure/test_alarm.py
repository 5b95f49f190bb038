"""Alerts: told once, together, again when they last, never while silenced; by a real Prometheus and without one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.orchestration import ports
from reference_stack.orchestration.process import bound
from reference_stack.schemas.configuration.configuration import ConfigurationSettings
from reference_stack.schemas.configuration.monitoring import MonitoringSettings
from reference_stack.services.infrastructure import configuration
from reference_stack.services.infrastructure.monitoring.alerting import Grouping, Silence
from reference_stack.services.infrastructure.monitoring.app import create_app
from reference_stack.services.integration.metrics import embedded
from reference_stack.services.integration.metrics.memory import MemoryMetrics
from reference_stack.services.integration.metrics.port import Firing
from tests.reference_stack.infrastructure.conftest import eventually, serving

CACHE = Path(__file__).parents[3] / ".hxp" / "cache"


def alert(name: str = "Down", service: str = "cache", *, firing: bool = True) -> Firing:
    return Firing(name, {"service": service}, f"{service} is down", 0.0, firing)


def told(grouping: Grouping, now_s: float, *alerts: Firing, silences: tuple[Silence, ...] = ()) -> list[Any]:
    def names(rows: tuple[Firing, ...]) -> list[str]:
        return [row.labels["service"] for row in rows]

    steps = grouping.step(alerts, silences, now_s)
    return [(each.group, each.status, names(each.firing), names(each.resolved)) for each in steps]


def test_what_belongs_together_is_told_together() -> None:
    """Alerts of one name wait for each other, then come once; one that joins later comes with its group."""
    grouping = Grouping(wait_s=10, repeat_s=3600)
    a, b, c = alert(service="a"), alert(service="b"), alert(service="c")

    assert told(grouping, 0, a) == []
    assert told(grouping, 5, a, b) == []
    assert told(grouping, 10, a, b) == [("Down", "firing", ["a", "b"], [])]
    assert told(grouping, 20, a, b) == []
    assert told(grouping, 30, a, b, c) == []
    assert told(grouping, 40, a, b, c) == [("Down", "firing", ["a", "b", "c"], [])]


def test_what_is_over_is_told_at_once_and_what_lasts_again() -> None:
    """An end does not wait; a group that goes on is told again after its interval."""
    grouping = Grouping(wait_s=0, repeat_s=100)
    a, b = alert(service="a"), alert(service="b")

    assert told(grouping, 0, a, b) == [("Down", "firing", ["a", "b"], [])]
    assert told(grouping, 1, a) == [("Down", "firing", ["a"], ["b"])]
    assert told(grouping, 100, a) == []
    assert told(grouping, 101, a) == [("Down", "firing", ["a"], [])]
    assert told(grouping, 102) == [("Down", "resolved", [], ["a"])]
    assert told(grouping, 103) == []


def test_a_blip_is_not_told() -> None:
    """What comes and goes within the wait was never told, so its end is not told either; nor is what only waits."""
    grouping = Grouping(wait_s=10, repeat_s=100)

    assert told(grouping, 0, alert()) == []
    assert told(grouping, 5) == []
    assert told(grouping, 20, alert(firing=False)) == []


def test_a_silence_keeps_still_until_its_end() -> None:
    """A silenced alert is neither told nor called over; when the silence ends and it lasts, it is told."""
    grouping = Grouping(wait_s=0, repeat_s=1000)
    quiet = (Silence("1", {"alertname": "Down", "service": "a"}, until_s=50),)
    a, b = alert(service="a"), alert(service="b")

    assert told(grouping, 0, a, b, silences=quiet) == [("Down", "firing", ["b"], [])]
    assert told(grouping, 10, a, silences=quiet) == [("Down", "resolved", [], ["b"])]
    assert told(grouping, 50, a, silences=quiet) == [("Down", "firing", ["a"], [])]
    assert told(grouping, 60, a, silences=(Silence("2", {"service": "a"}, until_s=99),)) == []
    assert told(grouping, 70, silences=()) == []


@given(st.lists(st.sets(st.sampled_from("abcd")), min_size=1, max_size=40), st.integers(0, 5))
def test_ends_follow_beginnings(history: list[set[str]], wait_s: int) -> None:
    """Whatever comes and goes: only what was told is called over, once; at the end all that was told is over."""
    grouping = Grouping(wait_s=wait_s, repeat_s=7)
    known: set[str] = set()
    for now_s, names in enumerate([*history, set()]):
        for each in grouping.step([alert(service=name) for name in sorted(names)], (), now_s):
            over = {row.labels["service"] for row in each.resolved}
            assert over <= known - names
            firing = {row.labels["service"] for row in each.firing}
            assert firing <= names
            known = (known - over) | firing
    assert known == set()


class Receiver:
    """A webhook that keeps what it was told; it fails as often as it is asked to."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.fails = 0
        self.app = FastAPI()

        @self.app.post("/hook")
        async def hook(request: Request) -> Response:
            if self.fails:
                self.fails -= 1
                return Response(status_code=500)
            self.told.append(await request.json())
            return Response()

    def groups(self) -> list[tuple[str, str]]:
        return [(each["groupKey"], each["status"]) for each in self.told]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@contextmanager
def alarmed(receiver: Receiver, metrics: MemoryMetrics | None = None, **more: object) -> Iterator[httpx.Client]:
    with serving(receiver.app) as hook:
        said = {"webhook": f"{hook}/hook", "alert_interval_s": 0.02, "alert_wait_s": 0, **more}
        app = create_app(MonitoringSettings.model_validate(said), metrics=metrics)
        with serving(app) as url, httpx.Client(base_url=url, timeout=10) as http:
            yield http


def test_the_webhook_is_told_and_tried_again(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """Firing and over reach the webhook in Alertmanager's shape and the log; a hook that fails twice is tried again."""
    metrics = MemoryMetrics()
    receiver.fails = 2
    metrics.firing = [alert()]
    with caplog.at_level("INFO"), alarmed(receiver, metrics) as http:
        eventually(lambda: receiver.groups() == [("Down", "firing")])
        assert receiver.told[0]["version"] == "4"
        assert receiver.told[0]["alerts"][0]["labels"] == {"alertname": "Down", "service": "cache"}
        assert receiver.told[0]["alerts"][0]["startsAt"] == "1970-01-01T00:00:00+00:00"
        assert "hxp_alerts_firing 1.0" in http.get("/metrics").text
        metrics.firing = []
        eventually(lambda: receiver.groups() == [("Down", "firing"), ("Down", "resolved")])
        assert "hxp_alert_notifications_failed 0.0" in http.get("/metrics").text
    assert {"alert Down: cache is down", "over Down: cache is down"} <= {record.message for record in caplog.records}


def test_a_webhook_that_is_away_is_counted(receiver: Receiver) -> None:
    """What nobody took is counted, and the service goes on."""
    metrics = MemoryMetrics()
    metrics.firing = [alert()]
    with alarmed(receiver, metrics, webhook="http://127.0.0.1:1/hook") as http:
        eventually(lambda: "hxp_alert_notifications_failed 1.0" in http.get("/metrics").text)
        assert http.get("/health").status_code == 200


def test_a_silence_can_be_set_and_lifted(receiver: Receiver) -> None:
    """While it is silenced an alert shows as silenced and is not told; lifted, it is."""
    metrics = MemoryMetrics()
    with alarmed(receiver, metrics) as http:
        made = http.post("/silences", json={"matchers": {"service": "cache"}, "for_s": 60, "comment": "upgrade"}).json()
        metrics.firing = [alert(), alert("Other", "phi3")]
        eventually(lambda: receiver.groups() == [("Other", "firing")])
        rows = {row["name"]: row["silenced"] for row in http.get("/alerts").json()["alerts"]}
        assert rows == {"Down": True, "Other": False}
        assert "hxp_alert_silences 1.0" in http.get("/metrics").text
        assert http.delete(f"/silences/{made['id']}").json()["silences"] == []
        eventually(lambda: receiver.groups() == [("Other", "firing"), ("Down", "firing")])
        assert http.delete(f"/silences/{made['id']}").status_code == 404
        for wrong in ({"matchers": {}, "for_s": 60}, {"matchers": {"a": "b"}, "for_s": 0}, {"machers": {"a": "b"}}):
            assert http.post("/silences", json=wrong).status_code == 422


def test_without_a_prometheus_the_watch_raises_the_alarm(receiver: Receiver) -> None:
    """A service that is down waits for its minute; a Prometheus that went away is an alert of its own."""
    services = {"cache": "http://127.0.0.1:1/health"}
    with alarmed(receiver, services=services) as http:
        eventually(lambda: http.get("/alerts").json()["alerts"])
        (row,) = http.get("/alerts").json()["alerts"]
        assert (row["name"], row["firing"], row["labels"]["service"]) == ("ServiceDown", False, "cache")
    metrics = MemoryMetrics()
    metrics.outage = True
    with alarmed(receiver, metrics, services=services) as http:
        eventually(lambda: len(http.get("/alerts").json()["alerts"]) == 2)
        assert [row["name"] for row in http.get("/alerts").json()["alerts"]] == ["PrometheusAway", "ServiceDown"]
        metrics.outage = False
        eventually(lambda: http.get("/alerts").json()["alerts"] == [])
    assert receiver.told == []


@contextmanager
def prometheus(folder: Path, port: int, scraped: dict[str, int]) -> Iterator[None]:
    """Run a real Prometheus with our rules, which looks every second."""
    binary = embedded.find(CACHE)
    assert binary is not None
    program = embedded.EmbeddedPrometheus(binary, folder).prepare(port, scraped, interval_s=1)
    argv = bound(program.argv, os.getpid())
    with subprocess.Popen(argv, env={**os.environ, **program.environment}, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()
            server.wait(10)


def test_a_real_prometheus_raises_and_lowers_an_alert(receiver: Receiver, tmp_path: Path) -> None:
    """A refused configuration is scraped, the rule fires, the webhook is told; mended, it is told that it is over."""
    if embedded.find(CACHE) is None:
        pytest.skip("no Prometheus here: hxp-stack tools fetches one")
    file = tmp_path / "host.yaml"
    file.write_text("cache: {index: 1}\n")
    with ExitStack() as stack:
        settings = ConfigurationSettings(host_file=file, watch_s=0.05)
        url = stack.enter_context(serving(configuration.create_app(settings, {})))
        reserved = stack.enter_context(closing(ports.reserve()))
        scraped = {"configuration": int(url.rsplit(":", 1)[1])}
        stack.enter_context(prometheus(tmp_path, reserved.port, scraped))
        said = f"http://127.0.0.1:{reserved.port}"
        http = stack.enter_context(alarmed(receiver, prometheus_url=said, alert_interval_s=0.2))

        file.write_text("cache: {indx: 1}\n")
        eventually(lambda: ("ConfigurationRefused", "firing") in receiver.groups(), within_s=30)
        assert "A changed configuration was refused" in json.dumps(receiver.told)
        assert "ConfigurationRefused" in http.get("/").text
        file.write_text("cache: {index: 2}\n")
        eventually(lambda: receiver.groups()[-1] == ("ConfigurationRefused", "resolved"), within_s=30)
