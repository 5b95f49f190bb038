"""The pages of the simulated vLLM that generate nothing: models, health, version, load, metrics, tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from reference_stack.schemas.api.openai import DetokenizeRequest, TokenizeChatRequest, TokenizePromptRequest
from reference_stack.services.ai_models.api_error import ApiError, invalid
from reference_stack.services.ai_models.asgi import JSON, Scope, check_json
from reference_stack.services.ai_models.body import decode, read
from reference_stack.services.ai_models.messages import check_messages
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.physics import Device
from reference_stack.services.ai_models.prompt import chat_prompt, text_prompt
from reference_stack.services.ai_models.reply import STARTS, TOKENS, token_id
from reference_stack.services.ai_models.request import check_model
from reference_stack.services.ai_models.sim_engine import SimEngine
from reference_stack.services.ai_models.sim_metrics import SimMetrics
from reference_stack.services.ai_models.wire import dumps

WIRE_VERSION = "0.32.0"  # the vLLM whose answers these are
Answer = tuple[int, bytes, bytes]  # status, body, content type
Page = Callable[[Scope, bytes], Answer]


class Pages:
    """Answers by path and method; `routes` is the table."""

    def __init__(
        self, spec: ModelSpec, device: Device, engine: SimEngine, metrics: SimMetrics, *, max_model_len: int
    ) -> None:
        self._spec = spec
        self._device = device
        self._engine = engine
        self._metrics = metrics
        self._max_model_len = max_model_len
        known = (*TOKENS, *(TOKENS[start].lstrip() for start in STARTS))
        self._token_of = {token_id(token, spec.architecture.vocab): token for token in known}
        self._started_s = int(time.time())
        self.fingerprint = f"sim-{WIRE_VERSION}-{device.name}"
        self.routes: dict[str, dict[str, Page]] = {
            "/v1/models": {"GET": self._models},
            "/health": {"GET": self._ready},
            "/health/ready": {"GET": self._ready},
            "/health/live": {"GET": self._live},
            "/health/startup": {"GET": self._ready},
            "/ping": {"GET": self._ping, "POST": self._ping},
            "/version": {"GET": self._version},
            "/load": {"GET": self._load},
            "/metrics": {"GET": self._page},
            "/tokenize": {"POST": self._tokenize},
            "/detokenize": {"POST": self._detokenize},
        }

    def _models(self, _scope: Scope, _body: bytes) -> Answer:
        permission = {
            "id": f"modelperm-{self._spec.name}",
            "object": "model_permission",
            "created": self._started_s,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        model = {
            "id": self._spec.name,
            "object": "model",
            "created": self._started_s,
            "owned_by": "hxp-sim",
            "root": str(self._spec.path),
            "parent": None,
            "max_model_len": self._max_model_len,
            "permission": [permission],
        }
        return 200, dumps({"object": "list", "data": [model]}), JSON

    def _ready(self, _scope: Scope, _body: bytes) -> Answer:
        return 200, dumps({"service": self._spec.name, "status": "ready", "dependencies": {}}), JSON

    def _live(self, _scope: Scope, _body: bytes) -> Answer:
        return 200, dumps({"service": self._spec.name, "status": "live"}), JSON

    def _ping(self, _scope: Scope, _body: bytes) -> Answer:
        return 200, b"", JSON

    def _version(self, _scope: Scope, _body: bytes) -> Answer:
        about = {"version": self.fingerprint, "simulated": True, "wire": WIRE_VERSION, "device": self._device.title}
        return 200, dumps(about), JSON

    def _load(self, _scope: Scope, _body: bytes) -> Answer:
        return 200, dumps({"server_load": self._engine.load}), JSON

    def _page(self, _scope: Scope, _body: bytes) -> Answer:
        return 200, self._metrics.render(self._engine.queued), CONTENT_TYPE_LATEST.encode()

    def _tokenize(self, scope: Scope, body: bytes) -> Answer:
        check_json(scope)
        value = decode(body)
        if isinstance(value, dict) and not value.keys() & {"prompt", "messages"}:
            missing = {"type": "missing", "msg": "Field required", "input": value}
            raise invalid([{**missing, "loc": ("prompt",)}, {**missing, "loc": ("messages",)}])
        if isinstance(value, dict) and "prompt" not in value:
            chat = _read_chat(body, value)
            check_model(chat.model, self._spec.name)
            tokens = [str(token) for token in chat_prompt(chat.messages, self._spec).tokens]
            wanted = chat.return_token_strs
        else:
            prompt = read(body, TokenizePromptRequest)
            check_model(prompt.model, self._spec.name)
            tokens = [str(token) for token in text_prompt(prompt.prompt).tokens]
            if not prompt.add_special_tokens:
                del tokens[0]
            wanted = prompt.return_token_strs
        ids = [self._remember(token) for token in tokens]
        strings = tokens if wanted else None
        answer = {"count": len(ids), "max_model_len": self._max_model_len, "tokens": ids, "token_strs": strings}
        return 200, dumps(answer), JSON

    def _detokenize(self, scope: Scope, body: bytes) -> Answer:
        check_json(scope)
        asked = read(body, DetokenizeRequest)
        check_model(asked.model, self._spec.name)
        return 200, dumps({"prompt": "".join(self._token_of.get(number, "") for number in asked.tokens)}), JSON

    def _remember(self, token: str) -> int:
        # There is no table of all words: a number means the last token that got it here, or a word of the replies.
        number = token_id(token, self._spec.architecture.vocab)
        self._token_of[number] = token
        return number


def _read_chat(body: bytes, value: dict[str, Any]) -> TokenizeChatRequest:
    """Return the conversation to count; what is wrong with it is told as the lack of a text.

    vLLM reads both kinds of request, and tells first what the body lacks to be the other.
    """
    try:
        chat = read(body, TokenizeChatRequest)
        check_messages(chat.messages)
    except ApiError:
        fields = ("prompt", "messages") if isinstance(value.get("model"), str | None) else ("model",)
        row = {"type": "missing", "msg": "Field required", "input": value}
        raise invalid([{**row, "loc": (field,)} for field in fields]) from None
    return chat
