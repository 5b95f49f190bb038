"""Answers kept for keys that opted in: the same request of the same tenant gets the same bytes again."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.services.infrastructure.api_gateway.asked import Asked
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.events import Usage
from reference_stack.services.infrastructure.api_gateway.ports import in_task
from reference_stack.services.integration.cache.responses import ResponseCache

log = logging.getLogger(__name__)


class SharedAnswers:
    """See ports.Answers. Kept are whole answers, and streams that came to their end, as the bytes that were passed on,
    behind a line with the tokens that the model counted.

    A key of `exact` has none but answers to temperature 0, which the model would give again; one of `sampled` has any.
    """

    def __init__(self, responses: ResponseCache) -> None:
        self._responses = responses

    def wants(self, call: Call, asked: Asked) -> bool:
        key = call.key
        if key is None or key.answers == "off":
            return False
        temperature = asked.request.get("temperature")
        return key.answers == "sampled" or (temperature is not None and temperature == 0)

    async def find(self, call: Call, asked: Asked) -> bytes | None:
        await in_task()
        try:
            found = await self._responses.find(*_question(call, asked))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the cache, the model can answer
            log.warning("a kept answer could not be looked for: %s", type(error).__name__)
            return None
        if found is None:
            return None
        tokens, _, answer = found.partition(b"\n")
        counts = [int(count) for count in tokens.split()]
        call.usage = Usage(*counts) if counts else None
        return answer

    async def keep(self, call: Call, asked: Asked, answer: bytes) -> None:
        usage = call.usage
        tokens = b"" if usage is None else b"%d %d" % (usage.prompt_tokens, usage.completion_tokens)
        try:
            await self._responses.keep(*_question(call, asked), tokens + b"\n" + answer)
        except Exception as error:  # noqa: BLE001 - likewise: it is made again
            log.warning("an answer could not be kept: %s", type(error).__name__)


def _question(call: Call, asked: Asked) -> tuple[str, Mapping[str, object]]:
    """Return who asks, and the whole of what is asked: route, model, every parameter."""
    assert call.key is not None  # noqa: S101 - nobody without a key is served
    return tenant_of(call.key), {"route": call.route, "model": asked.model, "request": asked.request}


def tenant_of(key: ApiKey) -> str:
    """Return whose answers and prefixes a key may meet: its tenant's, or its own where it has none."""
    return f"tenant {key.tenant}" if key.tenant else f"key {key.id}"
