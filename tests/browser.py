"""A real browser for tests and pictures: Debian's headless Chromium, unpacked without root, spoken to over DevTools.

python tests/browser.py      fetch it into .hxp/chromium
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FOLDER = Path(__file__).parents[1] / ".hxp" / "chromium"
_PACKAGE = "chromium-headless-shell"
_BINARY = "usr/lib/chromium/chromium-headless-shell"
_FETCH_S = 300
_ANSWER_S = 30.0


def find() -> list[str] | None:
    """Return the command of a Chromium: one in PATH, else the one that `fetch` unpacked, else None."""
    for name in (_PACKAGE, "chromium", "google-chrome"):
        if found := shutil.which(name):
            return [found]
    return [str(FOLDER / _BINARY)] if (FOLDER / _BINARY).exists() else None


def fetch() -> Path:
    """Download Chromium and the libraries that this machine lacks, and unpack them; nothing is installed."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    wanted = ["apt-get", "install", "-s", "-qq", "--no-install-recommends", _PACKAGE]
    told = subprocess.run(wanted, capture_output=True, text=True, timeout=_FETCH_S, check=True).stdout
    names = [line.split()[1] for line in told.splitlines() if line.startswith("Inst ")]
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as folder:
        subprocess.run(["apt-get", "download", "-qq", *names], cwd=folder, timeout=_FETCH_S, check=True)
        draft = Path(folder) / "unpacked"
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(draft)], timeout=_FETCH_S, check=True)
        with contextlib.suppress(OSError):  # somebody else was faster, with the same
            draft.rename(FOLDER)
    return FOLDER / _BINARY


class Page:
    """A tab; `call` is a method of the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._last = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        async with asyncio.timeout(_ANSWER_S):
            while True:
                said = await self._socket.receive_json()
                if said.get("id") == self._last:
                    assert "error" not in said, said
                    result: dict[str, Any] = said["result"]
                    return result

    async def open(self, url: str, *, width: int, height: int, dark: bool = False, scale: float = 1) -> None:
        """Show `url` in a window of that size, with scripts off."""
        await self.call("Page.enable")
        await self.call("Emulation.setScriptExecutionDisabled", value=True)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Page.navigate", url=url)
        shown = "location.href != 'about:blank' && document.readyState == 'complete'"
        async with asyncio.timeout(_ANSWER_S):
            while not await self.ask(shown):  # noqa: ASYNC110 - the page tells nobody
                await asyncio.sleep(0.05)

    async def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, asked by the debugger: the page itself runs none."""
        return (await self.call("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get("value")

    async def picture(self) -> bytes:
        """Return the whole page as a PNG."""
        height = await self.ask("document.documentElement.scrollHeight")
        width = await self.ask("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def browser(command: list[str]) -> AsyncIterator[Page]:
    """Run a Chromium that reaches 127.0.0.1 alone, and yield a tab of it."""
    libraries = {str(path.parent) for path in FOLDER.rglob("*.so*")}
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run"]
        flags += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        process = await asyncio.create_subprocess_exec(
            *command, *flags, "about:blank", env=environment, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(_ANSWER_S):
                while b"DevTools listening on " not in (line := await process.stderr.readline()):
                    assert line, "Chromium ended before it listened"
            port = int(line.decode().split("127.0.0.1:")[1].split("/")[0])
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    tab = next(row for row in json.loads(await answer.text()) if row["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            process.kill()
            await process.communicate()


if __name__ == "__main__":
    try:
        print(f"Chromium is at {fetch() if find() is None else find()}")
    except (OSError, subprocess.SubprocessError) as error:
        print(f"no Chromium: {error}", file=sys.stderr)
        sys.exit(5)
