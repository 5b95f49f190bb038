"""The status page in a real browser: readable on a phone, without scripts, and it reads itself again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from reference_stack.catalogue import load_catalogue
from reference_stack.schemas.configuration.monitoring import MonitoringSettings
from reference_stack.services.infrastructure.monitoring.app import create_app
from reference_stack.services.integration.metrics.memory import MemoryMetrics
from reference_stack.services.integration.metrics.port import Firing
from tests.browser import Page, browser, find
from tests.reference_stack.infrastructure.conftest import eventually, serving
from tests.reference_stack.infrastructure.test_monitoring import Neighbours

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1200, "height": 900}
_LONG = "x" * 300


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A tab of a Chromium; skips where there is none."""
    command = find()
    if command is None:
        pytest.skip("no Chromium here: python tests/browser.py fetches one")
    async with browser(command) as tab:
        yield tab


class Counted:
    """An application that counts how often its page was asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self.pages = 0
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/":
            self.pages += 1
        await self._app(scope, receive, send)


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_the_page_is_readable(page: Page, size: dict[str, int], dark: bool) -> None:
    """Nothing runs out of the window, no text is small or pale, all twelve and the alert are there."""
    neighbours = Neighbours()
    neighbours.answers = dict.fromkeys(load_catalogue(), (200, b"{}"))
    neighbours.answers["cache"] = (503, f'{{"dependencies": {{"redis": "{_LONG}"}}}}'.encode())
    neighbours.answers["phi3"] = (200, b'{"dependencies": {"x": "<b>not bold</b>"}}')
    metrics = MemoryMetrics()
    metrics.firing = [
        Firing("ServiceDown", {"severity": "critical", "service": "cache"}, "cache is out", time.time() - 300)
    ]
    with serving(neighbours.app) as away:
        services = {name: f"{away}/{name}" for name in neighbours.answers}
        app = create_app(MonitoringSettings.model_validate({"services": services}), metrics=metrics)
        with serving(app) as url:
            await asyncio.to_thread(lambda: eventually(lambda: httpx.get(f"{url}/status").json()["up"] == 11))
            await page.open(url, **size, dark=dark)
            text = await page.ask("document.body.innerText")
            overflow = await page.ask("document.documentElement.scrollWidth - innerWidth")
            smallest = await page.ask(_SMALLEST)
            contrast = await page.ask(_CONTRAST)

    assert all(spec.title in text for spec in load_catalogue().values())
    assert "Some services are not up" in text
    assert "ServiceDown for 5 min" in " ".join(text.split())
    assert _LONG in text
    assert "<b>not bold</b>" in text
    assert overflow <= 0
    assert smallest >= 12
    assert contrast >= 4.5  # WCAG AA


async def test_the_page_reads_itself_again_without_scripts(page: Page) -> None:
    """With scripts off the page comes again after its interval, and shows what has changed."""
    neighbours = Neighbours()
    neighbours.answers = {"cache": (200, b"{}")}
    with serving(neighbours.app) as away:
        said = {"services": {"cache": f"{away}/cache"}, "interval_s": 0.2}
        app = Counted(create_app(MonitoringSettings.model_validate(said)))
        with serving(app) as url:
            await asyncio.to_thread(lambda: eventually(lambda: httpx.get(f"{url}/status").json()["up"] == 1))
            await page.open(url, **PHONE)  # type: ignore[arg-type]  # width and height
            before = app.pages
            assert "1 of 12 up" in await page.ask("document.body.innerText")
            neighbours.answers["cache"] = (503, b"{}")
            async with asyncio.timeout(20):
                while "0 of 12 up" not in str(await page.ask("document.body && document.body.innerText")):  # noqa: ASYNC110 - the page tells nobody
                    await asyncio.sleep(0.1)
            assert app.pages > before


_SMALLEST = """
Math.min(...[...document.querySelectorAll("main *")].filter(e => e.innerText && e.offsetParent)
  .map(e => parseFloat(getComputedStyle(e).fontSize)))
"""
# The least contrast of a text with what is behind it, as WCAG 2 defines it.
_CONTRAST = """
(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = parse(c).map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b };
  const back = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c) && c !== "transparent") return c } return "rgb(255, 255, 255)" };
  const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  return Math.min(...[...document.querySelectorAll("main *")].filter(own).map(e => {
    const a = light(getComputedStyle(e).color), b = light(back(e));
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) }));
})()
"""
