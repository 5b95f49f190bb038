"""Vectors of texts, as vLLM answers when it is started for them: each is one prefill, and nothing is generated."""

from __future__ import annotations

import asyncio
import base64
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from reference_stack.schemas.api.openai import EmbeddingRequest
from reference_stack.services.ai_models.api_error import ApiError, invalid
from reference_stack.services.ai_models.asgi import Receive, Scope, Send, body_of, check_json, gone, header, send_whole
from reference_stack.services.ai_models.blocks import block_keys
from reference_stack.services.ai_models.body import read
from reference_stack.services.ai_models.messages import check_messages
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.precheck import cache_salt
from reference_stack.services.ai_models.prompt import Prompt, chat_prompt, embedding_prompts
from reference_stack.services.ai_models.sampling import too_long
from reference_stack.services.ai_models.sim_engine import Live, SimEngine
from reference_stack.services.ai_models.sim_metrics import Choices, Ended
from reference_stack.services.ai_models.truncation import truncated
from reference_stack.services.ai_models.wire import dumps

_SAFE_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What all requests of one server share. Their times count from the moment the body is read."""

    spec: ModelSpec
    max_model_len: int
    prefix_caching: bool
    engine: SimEngine
    headers: Sequence[tuple[bytes, bytes]]

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer a request and return the status; raise ApiError where it is refused."""
        raw = await body_of(receive)
        arrival_s = time.monotonic()
        check_json(scope)
        body = read(raw, EmbeddingRequest, _before)
        prompts = self._prompts(body)
        if not await self._compute(prompts, body.cache_salt, arrival_s, receive):
            return 200  # nobody waits for it any more
        given = header(scope, b"x-request-id").decode("latin-1")
        own = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        await send_whole(send, 200, dumps(self._reply(f"embd-{own}", body, prompts)), self.headers)
        return 200

    def _prompts(self, body: EmbeddingRequest) -> tuple[Prompt, ...]:
        if body.model and body.model != self.spec.name:
            raise ApiError(f"The model `{body.model}` does not exist.", status=404)
        if body.dimensions is not None:
            message = f"Model '{self.spec.name}' does not support Matryoshka embeddings; dimensions must be unset"
            raise ApiError(f"{message} (received dimensions={body.dimensions}).")
        if body.messages is not None:
            prompts: tuple[Prompt, ...] = (chat_prompt(check_messages(body.messages), self.spec),)
        elif body.input is None:
            row = {"type": "missing", "msg": "Field required", "input": {}}
            raise invalid([{**row, "loc": (field,)} for field in ("input", "messages")])
        else:
            prompts = embedding_prompts(body.input, self.spec)
        most = self.max_model_len
        keep, side = body.truncate_prompt_tokens, body.truncation_side or "right"
        prompts = truncated(prompts, keep, side, most, answers=False)
        if any(not prompt.tokens for prompt in prompts):
            raise ApiError("The decoder prompt cannot be empty")
        if any(len(prompt.tokens) > most for prompt in prompts):
            raise too_long(most)
        return prompts

    async def _compute(self, prompts: Sequence[Prompt], salt: str | None, arrival_s: float, receive: Receive) -> bool:
        """Take the time that the prompts take; return False when the client left before."""
        done = asyncio.Event()
        left = len(prompts)

        def deliver(_live: Live) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        lives = [
            Live(
                prompt_tokens=len(prompt.tokens),
                output_tokens=1,  # the step that ends a prefill
                arrival_s=arrival_s,
                keys=block_keys(prompt.tokens, salt) if self.prefix_caching else (),
                deliver=deliver,
                ended=Ended("stop", 1, Choices(1)),
            )
            for prompt in prompts
        ]
        departure = asyncio.ensure_future(gone(receive))
        departure.add_done_callback(lambda _: done.set())
        try:
            self.engine.submit(*lives)
            await done.wait()
            return not left
        finally:
            departure.cancel()
            for live in lives:
                self.engine.abort(live)

    def _reply(self, answer_id: str, body: EmbeddingRequest, prompts: Sequence[Prompt]) -> Mapping[str, Any]:
        vectors = [vector(prompt, self.spec) for prompt in prompts]
        shown: list[Any] = [
            base64.b64encode(each.tobytes()).decode() if body.encoding_format == "base64" else each.tolist()
            for each in vectors
        ]
        tokens = sum(len(prompt.tokens) for prompt in prompts)
        return {
            "id": answer_id,
            "object": "list",
            "created": int(time.time()),
            "model": self.spec.name,
            "data": [{"index": index, "object": "embedding", "embedding": each} for index, each in enumerate(shown)],
            "usage": {
                "prompt_tokens": tokens,
                "total_tokens": tokens,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
        }


def vector(prompt: Prompt, spec: ModelSpec) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the vector of a prompt: of length 1, the same for the same tokens and unrelated to any other's."""
    digest = blake2b(f"{spec.name}\0{prompt.tokens!r}".encode(errors="surrogatepass"), digest_size=8).digest()
    drawn = np.random.default_rng(int.from_bytes(digest)).standard_normal(spec.architecture.hidden, np.float32)
    return (drawn / np.linalg.norm(drawn)).astype("<f4")


def _before(body: Mapping[str, Any]) -> None:
    if "normalize" in body:
        message = "Parameter `normalize` was removed; use `use_activation` instead. (parameter=normalize)"
        raise ApiError(message, param="normalize")
    cache_salt(body)
