"""Single questions to a target, with answers that a test can assert on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from hxp_harness.target import Target


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: HTTP status (0: none came), its text so far, the number of content chunks, the error that was seen."""

    status: int
    text: str = ""
    chunks: int = 0
    finish_reason: str = ""
    output_tokens: int | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Complete: status 200, and the server said why it finished."""
        return self.status == 200 and bool(self.finish_reason) and not self.error


class Probe:
    """Asks one target. Answers and refusals are Replies; nothing is raised for what a server does."""

    def __init__(self, target: Target, *, timeout_s: float = 30.0) -> None:
        self.target = target
        headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
        self._client = httpx.Client(timeout=timeout_s, headers=headers, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> httpx.Response:
        """GET a path below the server's root, such as `/health`."""
        return self._client.get(self.target.base_url.removesuffix("/v1") + path)

    def complete(self, prompt: str, *, max_tokens: int = 16, **fields: Any) -> Reply:
        """Ask for one chat completion, not streamed; `fields` go into the body."""
        body = self._body(prompt, max_tokens) | fields
        try:
            response = self._client.post(f"{self.target.base_url}/chat/completions", json=body)
        except httpx.HTTPError as error:
            return Reply(0, error=type(error).__name__)
        return _whole(response)

    def stream(self, prompt: str, *, max_tokens: int = 16, **fields: Any) -> Reply:
        """Ask for one chat completion, streamed; `fields` go into the body."""
        body = self._body(prompt, max_tokens) | {"stream": True, "stream_options": {"include_usage": True}} | fields
        events: list[bytes] = []
        try:
            with self._client.stream("POST", f"{self.target.base_url}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    response.read()
                    return _whole(response)
                events = b"".join(response.iter_raw()).split(b"\n\n")
        except httpx.HTTPError as error:
            return Reply(0, error=type(error).__name__)
        return _streamed(events)

    def _body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        message = {"role": "user", "content": prompt}
        return {"model": self.target.api_model, "messages": [message], "max_tokens": max_tokens}


def _whole(response: httpx.Response) -> Reply:
    if response.status_code != 200:
        return Reply(response.status_code, error=response.text[:8192])
    try:
        said = response.json()
        choice = said["choices"][0]
        text = choice["message"]["content"] or ""
        return Reply(200, text, 1, choice["finish_reason"] or "", said["usage"]["completion_tokens"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return Reply(200, error=f"not a chat completion: {type(error).__name__}")


def _streamed(events: list[bytes]) -> Reply:
    text, chunks, reason, tokens = "", 0, "", None
    for event in events:
        payload = event.strip().removeprefix(b"data:").strip()
        if payload in {b"", b"[DONE]"}:
            continue
        try:
            said = json.loads(payload)
        except ValueError:
            return Reply(200, text, chunks, error="not JSON in the stream")
        if "error" in said:
            return Reply(200, text, chunks, error=json.dumps(said["error"]))
        for choice in said.get("choices", []):
            piece = choice.get("delta", {}).get("content") or ""
            text, chunks = text + piece, chunks + bool(piece)
            reason = choice.get("finish_reason") or reason
        tokens = (said.get("usage") or {}).get("completion_tokens", tokens)
    return Reply(200, text, chunks, reason, tokens)
