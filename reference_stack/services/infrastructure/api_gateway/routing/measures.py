"""What routing shows to Prometheus, read when it is scraped: on a request's path nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from reference_stack.services.infrastructure.api_gateway.routing.pool import Pool, Shed
from reference_stack.services.infrastructure.api_gateway.routing.server import Out, Sign

_SERVER = ("model", "server")


class _Least(GaugeMetricFamily):
    """Of several processes the least: one that does not trust a server is shown."""

    multiprocess_mode = "livemin"


class RoutingCollector(Collector):
    """Labels are models and servers of the settings, and words of ours."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        in_flight = GaugeMetricFamily("hxp_gateway_server_in_flight", "Requests at each server.", labels=_SERVER)
        trusted = _Least("hxp_gateway_server_in", "1 while a server is trusted.", labels=_SERVER)
        ended = CounterMetricFamily(
            "hxp_gateway_attempts", "Attempts at each server by how they ended.", labels=(*_SERVER, "ended")
        )
        ejected = CounterMetricFamily(
            "hxp_gateway_ejections", "How often a server went out, by why.", labels=(*_SERVER, "why")
        )
        waiting = GaugeMetricFamily("hxp_gateway_line", "Requests that wait for a server.", labels=("model",))
        retries = CounterMetricFamily("hxp_gateway_retries", "Requests that were sent once more.", labels=("model",))
        # vLLM's names, as in ../measures.py.
        running = GaugeMetricFamily("hxp_gateway_num_requests_running", "Requests at servers.", labels=("model_name",))
        queued = GaugeMetricFamily(
            "hxp_gateway_num_requests_waiting", "Requests that wait for a server.", labels=("model_name",)
        )
        shed = CounterMetricFamily("hxp_gateway_shed", "Requests turned away, by why.", labels=("model", "why"))
        for model, pool in self._pools.items():
            counts = pool.counts
            waiting.add_metric((model,), pool.waiting)
            queued.add_metric((model,), pool.waiting)
            running.add_metric((model,), sum(server.in_flight for server in pool.servers))
            retries.add_metric((model,), counts.retries)
            for why in Shed:
                shed.add_metric((model, why), counts.shed.get(why, 0))
            for server in pool.servers:
                place = (model, server.name)
                in_flight.add_metric(place, server.in_flight)
                trusted.add_metric(place, float(server.standing is None))
                ended.add_metric((*place, Sign.OK), server.served)
                for sign in Sign:
                    if sign is not Sign.OK:
                        ended.add_metric((*place, sign), counts.ended.get((server.name, sign), 0))
                for out in Out:
                    ejected.add_metric((*place, out), counts.ejected.get((server.name, out), 0))
        yield from (in_flight, trusted, ended, ejected, waiting, retries, shed, running, queued)
