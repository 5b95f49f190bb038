"""One request that generates: from its body to the last byte of its answer."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from dataclasses import dataclass

from reference_stack.schemas.configuration.model import ModelSettings
from reference_stack.services.ai_models.answer import Answer
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.asgi import Receive, Scope, Send, body_of, check_json, gone, header, send_whole
from reference_stack.services.ai_models.play import Broken, Play
from reference_stack.services.ai_models.request import Asked, ask_chat, ask_completion
from reference_stack.services.ai_models.scripted import Server
from reference_stack.services.ai_models.sim_engine import Live, SimEngine
from reference_stack.services.ai_models.sim_metrics import Choices, Ended, SimMetrics
from reference_stack.services.ai_models.wire import Wire

_SAFE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_EVENTS = b"text/event-stream; charset=utf-8"
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Generation:
    """What all requests of one server share. Their times count from the moment the body is read."""

    server: Server
    settings: ModelSettings
    engine: SimEngine
    metrics: SimMetrics
    fingerprint: str
    headers: Headers

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer a request and return the status; raise ApiError where it is refused."""
        body = await body_of(receive)
        arrival_s = time.monotonic()
        check_json(scope)
        chat = scope["path"] == "/v1/chat/completions"
        asked = (ask_chat if chat else ask_completion)(body, self.server)
        self._check_queue(len(asked.choices))
        given = header(scope, b"x-request-id").decode("latin-1")
        own = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        answer_id = f"{'chatcmpl' if chat else 'cmpl'}-{own}"
        details, model = self.settings.enable_prompt_tokens_details, self.server.spec.name
        wire = Wire(asked, answer_id, int(time.time()), model, self.fingerprint, details=details)
        parser = self.metrics.parser if asked.calls_free else None
        answer = Answer(wire, asked, None if parser is None else parser.of_chat(stream=asked.stream))
        lives = self._lives(asked, arrival_s, answer)
        departure = asyncio.ensure_future(gone(receive))
        departure.add_done_callback(answer.leave)
        play = None if asked.script is None else Play(asked.script, arrival_s, departure)
        try:
            self.engine.submit(*lives)
            await (self._stream if asked.stream else self._whole)(answer, wire, send, play)
        except Broken:
            return 200  # by a fault of the script, after the status had gone out
        finally:
            departure.cancel()
            for live in lives:
                self.engine.abort(live)
        return 200

    def _check_queue(self, choices: int) -> None:
        most = self.settings.max_num_queued_reqs
        if most is not None and self.engine.waiting + choices > most:
            self.metrics.rejected()
            raise ApiError("The server's queue is full. Please retry later.", status=503)

    def _lives(self, asked: Asked, arrival_s: float, answer: Answer) -> list[Live]:
        groups = [Choices(asked.n) for _ in asked.prompts]
        return [
            Live(
                prompt_tokens=len(asked.prompt_of(i).tokens),
                output_tokens=len(choice.reply.tokens),
                arrival_s=arrival_s,
                keys=asked.keys_of(i) if self.settings.enable_prefix_caching else (),
                reads_cache=asked.reads_cache,
                deliver=answer.deliver,
                ended=Ended(choice.reply.finish_reason, asked.max_tokens, groups[i // asked.n]),
                choice=i,
            )
            for i, choice in enumerate(asked.choices)
        ]

    async def _stream(self, answer: Answer, wire: Wire, send: Send, play: Play | None) -> None:
        tokens = await answer.take()
        if play is not None:
            await play.until(0)
        headers = [(b"content-type", _EVENTS), *self.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        place = 0
        while tokens and not answer.gone:
            for event in [b"".join(tokens)] if play is None else tokens:
                if play is not None:
                    await play.ready(place, send)
                    place += 1
                if event:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            tokens = await answer.take()
        if play is not None:
            await play.ready(None, send)
        await send({"type": "http.response.body", "body": b"" if answer.gone else wire.end(answer.cached)})

    async def _whole(self, answer: Answer, wire: Wire, send: Send, play: Play | None) -> None:
        await answer.take()
        if play is not None:
            await play.whole(wire.tokens, send)
        if not answer.gone:
            await send_whole(send, 200, wire.whole(answer.cached), self.headers)
