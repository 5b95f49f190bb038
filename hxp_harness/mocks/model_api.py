"""The wire of an OpenAI-compatible model server (vLLM 0.32), for clients made of httpx."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import respx

from hxp_harness.mocks.model_rules import Refusal, malformed, refusal
from hxp_harness.mocks.model_speech import stream, whole, words_of

_ROUTES = {
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/models": "GET",
    "/health": "GET",
    "/ping": "GET",
    "/version": "GET",
    "/tokenize": "POST",
}

_PERMISSION = {
    "id": "modelperm-mock",
    "object": "model_permission",
    "created": 1,
    **dict.fromkeys(("allow_create_engine", "allow_search_indices", "allow_fine_tuning", "is_blocking"), False),
    **dict.fromkeys(("allow_sampling", "allow_logprobs", "allow_view"), True),
    "organization": "*",
    "group": None,
}


@dataclass(slots=True)
class ModelApi:
    """A mocked model server.

    `requests` are the bodies that it accepted; while `broken` is set, it is the answer to everything.
    """

    root: str
    model: str
    api_key: str
    max_model_len: int
    broken: httpx.Response | Exception | None = None
    requests: list[dict[str, object]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as vLLM would."""
        if isinstance(self.broken, Exception):
            raise self.broken
        if self.broken is not None:
            return self.broken
        path = request.url.path.removeprefix(urlsplit(self.root).path)
        refused = self._refused(request, path)
        if refused is not None:
            return refused
        if request.method == "GET":
            return self._told(path)
        body = _read(request)
        if isinstance(body, Refusal):
            return httpx.Response(body.code, json=body.body())
        return self._tokenized(body) if path == "/tokenize" else self._completed(request, body, path)

    def _refused(self, request: httpx.Request, path: str) -> httpx.Response | None:
        """Refuse an unknown route, a wrong method and, below /v1, a wrong key."""
        if path not in _ROUTES:
            return httpx.Response(404, json={"detail": "Not Found"})
        if request.method != _ROUTES[path]:
            return httpx.Response(405, json={"detail": "Method Not Allowed"}, headers={"allow": _ROUTES[path]})
        wanted = f"Bearer {self.api_key}"
        if path.startswith("/v1/") and self.api_key and request.headers.get("authorization") != wanted:
            return httpx.Response(401, json={"error": "Unauthorized"})
        return None

    def _told(self, path: str) -> httpx.Response:
        if path == "/version":
            return httpx.Response(200, json={"version": "0.32.0"})
        if path != "/v1/models":
            return httpx.Response(200)
        row: dict[str, object] = {"id": self.model, "object": "model", "created": 1, "owned_by": "vllm"}
        row |= {"root": self.model, "parent": None, "max_model_len": self.max_model_len, "permission": [_PERMISSION]}
        return httpx.Response(200, json={"object": "list", "data": [row]})

    def _tokenized(self, body: dict[str, object]) -> httpx.Response:
        if body.get("prompt") is None and body.get("messages") is None:
            wrong = malformed("body.prompt", "Field required", "missing")
            return httpx.Response(400, json=wrong.body())
        count = words_of(body)
        said = {"count": count, "max_model_len": self.max_model_len, "tokens": list(range(count)), "token_strs": None}
        return httpx.Response(200, json=said)

    def _completed(self, request: httpx.Request, body: dict[str, object], path: str) -> httpx.Response:
        chat = path.endswith("/chat/completions")
        refused = refusal(body, chat=chat, model=self.model, max_model_len=self.max_model_len) or self._too_long(body)
        if refused is not None:
            return httpx.Response(refused.code, json=refused.body())
        self.requests.append(body)
        request_id = request.headers.get("x-request-id") or f"mock-{next(self._numbers)}"
        if not body.get("stream"):
            return httpx.Response(200, json=whole(body, chat=chat, model=self.model, request_id=request_id))
        events = b"".join(stream(body, chat=chat, model=self.model, request_id=request_id))
        return httpx.Response(200, content=events, headers={"content-type": "text/event-stream; charset=utf-8"})

    def _too_long(self, body: dict[str, object]) -> Refusal | None:
        if words_of(body) < self.max_model_len:
            return None
        message = f"This model's maximum context length is {self.max_model_len} tokens. "
        return Refusal(message + "However, your prompt contains more.", param="input_tokens")


def _read(request: httpx.Request) -> dict[str, object] | Refusal:
    """Return a request's body, or what vLLM's schema refuses it with."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return malformed(None, "Unsupported Media Type: Only 'application/json' is allowed")
    if not request.content:
        return malformed("body", "Field required", "missing")
    try:
        body = json.loads(request.content)
    except ValueError as error:
        place = error.pos if isinstance(error, json.JSONDecodeError) else 0
        return malformed(f"body.{place}", "JSON decode error", "json_invalid")
    if not isinstance(body, dict):
        return malformed("body", "Input should be a valid dictionary or object", "model_attributes_type")
    return body


def install(
    router: respx.MockRouter, base_url: str, *, model: str = "mixtral", api_key: str = "", max_model_len: int = 2048
) -> ModelApi:
    """Route everything under the server of `base_url` (which ends in /v1) to a mocked model; return it for a look."""
    api = ModelApi(base_url.removesuffix("/v1"), model, api_key, max_model_len)
    router.route(url__startswith=f"{api.root}/").mock(side_effect=api.answer)
    return api
