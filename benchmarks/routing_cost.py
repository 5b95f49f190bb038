"""What choosing a server costs a request: `python benchmarks/routing_cost.py [--requests N]`.

CPU time of `pick`, `heard` and `end` for a model with 1, 2, 4 and 8 servers, the affinity of a prompt of 1 KiB included
where there are several; the least of five rounds. No socket is involved.
"""

from __future__ import annotations

import argparse
import time
from types import SimpleNamespace

from reference_stack.schemas.configuration.api_gateway import ApiGatewaySettings
from reference_stack.services.infrastructure.api_gateway.ports import Ended
from reference_stack.services.infrastructure.api_gateway.routing.router import Router
from reference_stack.services.infrastructure.api_gateway.upstream import Upstreams

MESSAGES = [{"role": "system", "content": "x" * 500}, {"role": "user", "content": "hello " * 100}]


def cost_us(servers: int, requests: int) -> float:
    backends = [{"base_url": f"http://127.0.0.1:{9000 + number}/v1"} for number in range(servers)]
    settings = ApiGatewaySettings.model_validate({"upstreams": {"m": {"backends": backends}}})
    router = Router(settings, Upstreams(settings).by_model)
    asked = SimpleNamespace(model="m", stream=True, request={"messages": MESSAGES})
    call = SimpleNamespace(key=None, session="", give_up=lambda: None)

    def one() -> None:
        try:
            router.pick(call, asked, ()).send(None)
        except StopIteration as done:
            done.value.heard()
            done.value.end(Ended.OK, 200, 0.0)

    rounds = []
    for _ in range(5):
        began_s = time.process_time()
        for _ in range(requests):
            one()
        rounds.append((time.process_time() - began_s) / requests)
    return min(rounds) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    requests = parser.parse_args().requests
    for servers in (1, 2, 4, 8):
        print(f"{servers} servers: {cost_us(servers, requests):.1f} us a request")


if __name__ == "__main__":
    main()
