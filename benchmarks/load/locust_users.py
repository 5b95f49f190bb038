"""Locust as people use it, FastHttpUser and constant throughput: `python benchmarks/load/locust_users.py JOB.json`.

One user a request a second, each waiting for its answer: a closed loop, as Locust's users are. TTFT, gaps and the whole
go into Locust's own statistics, whose percentiles are what it reports.
"""

from __future__ import annotations

import gevent.monkey  # type: ignore[import-untyped]  # ships no types

gevent.monkey.patch_all()

import json  # noqa: E402 - after the patch
import sys  # noqa: E402 - after the patch
import time  # noqa: E402 - after the patch
from pathlib import Path  # noqa: E402 - after the patch
from typing import Any  # noqa: E402 - after the patch

import gevent  # noqa: E402 - after the patch
from locust import FastHttpUser, constant_throughput, task  # noqa: E402 - after the patch
from locust.env import Environment  # noqa: E402 - after the patch

ASKED: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
SENT = ENDED = 0


class Reader(FastHttpUser):
    """Asks once a second."""

    host = ASKED["url"]
    wait_time = constant_throughput(ASKED["rate_rps"] / max(1, round(ASKED["rate_rps"])))

    @task
    def ask(self) -> None:
        global SENT, ENDED  # noqa: PLW0603 - all users share one count
        if ASKED["requests"] <= SENT:
            gevent.sleep(1.0)  # the others' answers
            return
        SENT += 1
        body = {
            "model": "golden", "messages": [{"role": "user", "content": "say something"}],
            "max_tokens": ASKED["tokens"], "stream": True,
        }  # fmt: skip
        begun_s = time.perf_counter()
        last_s = 0.0
        with self.client.post("/v1/chat/completions", json=body, stream=True, catch_response=True) as answer:
            while line := answer.stream.readline(b"\n"):  # its iter_lines waits for 1,024 bytes
                if not line.startswith(b"data: {") or not json.loads(line[6:]).get("choices"):
                    continue
                now_s = time.perf_counter()
                if json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    self.note("itl" if last_s else "ttft", now_s - (last_s or begun_s))
                    last_s = now_s
            answer.success()
        if last_s:
            self.note("e2e", last_s - begun_s)
        ENDED += 1

    def note(self, name: str, seconds: float) -> None:
        self.environment.events.request.fire(
            request_type="figure", name=name, response_time=seconds * 1e3, response_length=0, exception=None, context={}
        )


def main() -> None:
    environment = Environment(user_classes=[Reader])
    runner = environment.create_local_runner()
    runner.start(max(1, round(ASKED["rate_rps"])), spawn_rate=max(1, round(ASKED["rate_rps"])))
    until_s = time.monotonic() + ASKED["requests"] / ASKED["rate_rps"] + 30
    while ASKED["requests"] > ENDED and time.monotonic() < until_s:
        gevent.sleep(0.05)
    runner.quit()
    figures = {}
    for name in ("ttft", "itl", "e2e"):
        entry = environment.stats.get(name, "figure")
        if entry.num_requests:
            at = {f"p{q}": entry.get_response_time_percentile(q / 100) / 1e3 for q in (50, 99)}
            figures[name] = {"mean": entry.avg_response_time / 1e3, **at}
    posts = environment.stats.get("/v1/chat/completions", "POST")
    print(json.dumps({"ok": posts.num_requests - posts.num_failures, "failed": posts.num_failures, "figures": figures}))


if __name__ == "__main__":
    main()
