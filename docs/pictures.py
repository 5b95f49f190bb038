"""Makes the pictures of the pages from a live simulated stack, with Chromium and Prometheus: python -m docs.pictures

That of the report is made from a run of Mixtral: python -m docs.pictures reports/latest
"""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from reference_stack.catalogue import load_catalogue
from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics.client import PrometheusMetrics
from reference_stack.services.integration.metrics.port import Series
from reference_stack.services.integration.metrics.queries import BOARDS, Query
from tests.browser import browser, find

STATIC = Path(__file__).parent / "_static"
SHOWN_S = 75.0
_STEP_S = 1.0
_MODELS = [name for name, spec in load_catalogue().items() if spec.group == "ai_models"]
Services = dict[str, dict[str, Any]]


@contextmanager
def stack() -> Iterator[Services]:
    """Run all twelve, looked at every second."""
    with tempfile.TemporaryDirectory() as folder:
        host = Path(folder) / "host.yaml"
        host.write_text(
            "metrics: {collection_interval_s: 1}\nmonitoring: {interval_s: 2, deadline_s: 2}\n", encoding="utf-8"
        )
        argv = [sys.executable, "-m", "reference_stack", "up", "--foreground", "--json", "--ports", "free"]
        argv += ["--folder", f"{folder}/stack", "--host-file", str(host)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdin is not None  # noqa: S101 - a pipe was asked for
            assert child.stdout is not None  # noqa: S101 - likewise
            yield json.loads(child.stdout.readline())["services"]
            child.stdin.close()
            child.wait(20)


def load(services: Services, until_s: float) -> None:
    """Send chat requests to the models in turn, more and more of them, until `until_s` (monotonic seconds)."""
    gateway = services["api_gateway"]
    with httpx.Client(headers={"Authorization": f"Bearer {gateway['api_key']}"}, timeout=30, trust_env=False) as http:
        number, began_s = 0, time.monotonic()
        while time.monotonic() < until_s:
            model = _MODELS[number % len(_MODELS)]
            body = {"model": model, "messages": [{"role": "user", "content": "hello " * 40}], "max_tokens": 48}
            http.post(f"{gateway['base_url']}/chat/completions", json=body)
            number += 1
            time.sleep(max(0.0, 0.25 - (time.monotonic() - began_s) / 400))  # a load that grows


def preview(name: str, answers: Sequence[tuple[Query, Sequence[Series]]], file: Path) -> None:
    """Draw the panels of a dashboard as Grafana lays them out: two columns, a legend where series are few."""
    rows = (len(answers) + 1) // 2
    with mpl.rc_context({"font.size": 7, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 1.75 * rows), layout="constrained")
        for place, (query, series) in enumerate(answers):
            _panel(figure.add_subplot(rows, 2, place + 1), query, series)
        figure.suptitle(f"{name}: simulated stack", fontsize=9)
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=100)
    small(drawn.getvalue(), file)


def small(png: bytes, file: Path) -> None:
    """Write a picture with 256 colours: half its size, and nobody sees the difference."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def _panel(axes: Axes, query: Query, series: Sequence[Series]) -> None:
    axes.set_prop_cycle(color=mpl.colormaps["tab20" if len(series) > 10 else "tab10"].colors)
    scale, unit = (1e6, "MB") if query.unit == "bytes" else (1, query.unit)
    for row in series:
        label = query.legend
        for key, value in row.labels.items():
            label = label.replace("{{" + key + "}}", value or "(none)")
        end_s = max(at_s for at_s, _ in row.points)
        axes.plot(
            [at_s - end_s for at_s, _ in row.points],
            [value / scale for _, value in row.points],
            linewidth=1,
            label=label,
        )
    axes.xaxis.set_major_formatter("{x:.0f} s")
    axes.set_title(f"{query.title} ({unit})", loc="left", fontsize=7.5)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.grid(alpha=0.25)
    if len(series) > 1:
        axes.legend(
            fontsize=5, frameon=False, ncols=1 if len(series) < 7 else 2, loc="upper left", bbox_to_anchor=(1, 1)
        )


async def dashboards(services: Services) -> None:
    port = int(services["metrics"]["url"].rsplit(":", 1)[1])
    store = PrometheusMetrics(MetricsSettings(prometheus_port=port, timeout_s=20))
    now_s = time.time()
    for name, queries in BOARDS.items():
        asked = [await store.query_range(query.over("15s"), now_s - SHOWN_S + 15, now_s, _STEP_S) for query in queries]
        preview(name, list(zip(queries, asked, strict=True)), STATIC / f"dashboard-{name}.png")
    await store.close()


async def status_page(services: Services) -> None:
    """Take the page as a desktop in light and a phone in dark show it, one service gone."""
    url = services["monitoring"]["health_url"].removesuffix("/health")
    async with browser(_chromium()) as page:
        await page.open(url, width=760, height=600)
        small(await page.picture(), STATIC / "status-page.png")
        await page.open(url, width=380, height=740, dark=True, scale=1.3)
        small(await page.picture(), STATIC / "status-page-phone.png")


async def report(run: Path) -> None:
    """Take two parts of a run's report: verdict with gates, and the first pictures."""
    tops = "Object.fromEntries([...document.querySelectorAll('h2, h3')].map((e) => [e.textContent, e.offsetTop]))"
    async with browser(_chromium()) as page:
        await page.open((run / "report.html").resolve().as_uri(), width=980, height=1180)
        top, png = await page.ask(tops), await page.picture()
    whole = Image.open(io.BytesIO(png)).convert("RGB")
    cuts = (
        (0, top["Is the measurement valid?"]),
        (top["Pictures"], top["Distribution under the gate e2e p95 <= 2000 ms"]),
    )
    parts = [whole.crop((0, int(upper), whole.width, int(lower) - 8)) for upper, lower in cuts]
    joined = Image.new("RGB", (whole.width, sum(part.height for part in parts)), "white")
    joined.paste(parts[0], (0, 0))
    joined.paste(parts[1], (0, parts[0].height))
    drawn = io.BytesIO()
    joined.save(drawn, "PNG")
    small(drawn.getvalue(), STATIC / "report.png")


def _chromium() -> list[str]:
    command = find()
    if command is None:
        sys.exit("no Chromium: python tests/browser.py")
    return command


def main(runs: Sequence[str]) -> None:
    import psutil

    if runs:
        asyncio.run(report(Path(runs[0])))
        return
    with stack() as services:
        until_s = time.monotonic() + SHOWN_S
        workers = [threading.Thread(target=load, args=(services, until_s)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        asyncio.run(dashboards(services))
        hung = psutil.Process(int(services["phi3"]["pid"]))
        hung.suspend()
        url = services["monitoring"]["health_url"].removesuffix("/health")
        while httpx.get(f"{url}/status", trust_env=False).json()["up"] == len(services):
            time.sleep(0.2)  # polls until the watch has seen it
        asyncio.run(status_page(services))
        hung.resume()


if __name__ == "__main__":
    main(sys.argv[1:])
