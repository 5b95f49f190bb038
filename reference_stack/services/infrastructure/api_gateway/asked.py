"""A request that may go to a model: checked, and the bytes that will be sent for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import cast

import msgspec

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.configuration.api_gateway import LimitSettings
from reference_stack.schemas.configuration.upstream import Route, UpstreamSettings
from reference_stack.services.infrastructure.api_gateway import parameters
from reference_stack.services.infrastructure.api_gateway.body import parse_object
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RELAYED: Mapping[str, Route] = {CHAT: "chat", COMPLETIONS: "completions", EMBEDDINGS: "embeddings"}
_BYTES_PER_TOKEN = 4
_UNBOUNDED_OUTPUT_TOKENS = 256


class Asked(msgspec.Struct, frozen=True):  # made for every request, at a fifth of a dataclass's cost
    """`body` goes to the model; `strip_usage` says that the client did not ask for the usage summary it brings.

    `request` is what the client sent, parsed.
    """

    model: str
    stream: bool
    strip_usage: bool
    body: bytes
    request: Mapping[str, object]

    @property
    def estimated_prompt_tokens(self) -> int:
        """About a token for four bytes of the body: no tokenizer runs here."""
        return len(self.body) // _BYTES_PER_TOKEN + 1

    @property
    def estimated_tokens(self) -> int:
        """What the request may come to, prompt and output; an output without a bound counts as 256 tokens."""
        request = self.request
        if "input" in request:  # embeddings have no output
            return self.estimated_prompt_tokens
        most = request.get("max_completion_tokens") or request.get("max_tokens") or _UNBOUNDED_OUTPUT_TOKENS
        # The parameters were checked.
        return self.estimated_prompt_tokens + cast("int", most) * cast("int", request.get("n") or 1)


Salt = Callable[[ApiKey, str], bytes]


class Reader:
    """Knows the parameters of each route, and what each model serves and takes."""

    def __init__(self, limits: LimitSettings, models: Mapping[str, UpstreamSettings], salt: Salt | None = None) -> None:
        """`salt` gives the `cache_salt` of a key's requests to a model, b"" for none."""
        self._limits = limits
        self._models = models
        self._salt = salt
        self._rules = {
            CHAT: (parameters.chat_parameters(limits), ("model", "messages")),
            COMPLETIONS: (parameters.completion_parameters(limits), ("model", "prompt")),
            EMBEDDINGS: (parameters.embedding_parameters(limits), ("model", "input")),
        }
        self._own = {
            (name, route): {**rules, **parameters.further(model.parameters)}
            for name, model in models.items()
            if model.parameters
            for route, (rules, _) in self._rules.items()
        }

    def read(self, route: str, body: bytes, key: ApiKey) -> Asked:
        """Return what is asked. Raises Refusal 400, or 404 for a model that is not there or not the key's to use."""
        request = parse_object(body, self._limits)
        rules, needed = self._rules[route]
        model = request.get("model")
        known = isinstance(model, str) and model in self._models and key.may_use(model)
        parameters.check(request, self._own.get((str(model), route), rules) if known else rules, needed)
        if not known:
            # One answer for both, so that a key cannot find out what others may use.
            message = "the model does not exist, or this key may not use it; GET /v1/models lists those it may"
            raise Refusal(404, "model_not_found", message, param="model")
        assert isinstance(model, str)  # noqa: S101 - it is known
        if RELAYED[route] not in self._models[model].routes:
            raise Refusal(404, "route_not_served", "the model does not serve this route", param="model")
        stream = request.get("stream") is True
        options = request.get("stream_options")
        strip = stream and not (isinstance(options, dict) and options.get("include_usage"))
        sent = _with_usage(body, request) if strip else body
        salt = b"" if self._salt is None else self._salt(key, model)
        if salt:
            sent = sent.rstrip()[:-1] + b',"cache_salt":"' + salt + b'"}'
        return Asked(model, stream, strip, sent, request)


def _with_usage(body: bytes, request: Mapping[str, object]) -> bytes:
    """Return the same request with the usage summary asked for; the client's own bytes are kept where possible."""
    if "stream_options" in request:
        return json.dumps({**request, "stream_options": {"include_usage": True}}).encode()
    return body.rstrip()[:-1] + b',"stream_options":{"include_usage":true}}'
