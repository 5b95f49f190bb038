"""The choices of an answer in vLLM's shapes, with everything that a request can ask for about its tokens."""

from __future__ import annotations

from typing import Any

from reference_stack.services.ai_models.logprobs import chat_entry, completion_block, prompt_block
from reference_stack.services.ai_models.request import Asked
from reference_stack.services.ai_models.tools import deltas

Json = dict[str, Any]


class Choices:
    """Chunks and whole choices of one request."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._deltas = [
            list(deltas(choice.calls, choice.reply.tokens)) if choice.calls else [] for choice in asked.choices
        ]

    def chunk(self, choice: int, place: int) -> Json | None:
        """Return what a stream sends of the token at `place` (from 0); None: nothing is sent of it."""
        asked = self._asked
        reply = asked.choices[choice].reply
        last = place + 1 == len(reply.tokens)
        ending: Json = {"finish_reason": reply.finish_reason if last else None}
        if last or not asked.chat:
            ending["stop_reason"] = reply.stop_reason if last else None
        if not asked.chat:
            first = place == 0 and (asked.echo or asked.token_ids)
            ending["prompt_token_ids"] = self.prompt_ids(choice) if first else None
            text = self._text(choice, place, place + 1)
            logprobs = self._block(choice, place, place + 1)
            return {
                "index": choice,
                "text": text,
                "logprobs": logprobs,
                **ending,
                "token_ids": self._ids(choice, place, 1),
            }
        delta = self._delta(choice, place)
        if delta is None and not last and asked.logprobs is None and not asked.token_ids:
            return None
        logprobs = self._content(choice, place, place + 1)
        ids = self._ids(choice, place, 1)
        return {"index": choice, "delta": delta or {}, "logprobs": logprobs, **ending, "token_ids": ids}

    def calls_at(self, choice: int, place: int) -> bool:
        """Whether the token at `place` tells something of a call."""
        return bool(self._deltas[choice] and self._deltas[choice][place])

    def calls(self, choice: int) -> bool:
        """Whether the reply is calls; one that is cut is text."""
        one = self._asked.choices[choice]
        return bool(one.calls) and "".join(one.reply.tokens) == "".join(call.text for call in one.calls)

    def whole(self, choice: int) -> Json:
        """Return the choice of an answer without streaming."""
        asked = self._asked
        reply = asked.choices[choice].reply
        count = len(reply.tokens)
        start: Json = {"index": choice}
        if asked.chat:
            start |= {"message": self._message(choice), "logprobs": self._content(choice, 0, count)}
        else:
            start |= {"text": self._text(choice, 0, count), "logprobs": self._block(choice, 0, count)}
        end: Json = {
            "finish_reason": reply.finish_reason,
            "stop_reason": reply.stop_reason,
            "token_ids": self._ids(choice, 0, count),
        }
        if not asked.chat:
            ids = self.prompt_ids(choice) if asked.token_ids else None
            end |= {"prompt_logprobs": self.prompt_logprobs(choice), "prompt_token_ids": ids}
        return start | end | {"routed_experts": None}

    def prompt_ids(self, choice: int) -> list[int]:
        return [self._asked.name.number(token) for token in self._asked.prompt_of(choice).tokens]

    def prompt_logprobs(self, choice: int) -> list[Json | None] | None:
        asked = self._asked
        if asked.prompt_logprobs is None:
            return None
        return prompt_block(asked.prompt_of(choice).tokens, asked.prompt_logprobs, asked.name)

    def _message(self, choice: int) -> Json:
        one = self._asked.choices[choice]
        called = self.calls(choice)
        message: Json = {
            "role": "assistant",
            "content": one.beside_calls if called else "".join(one.reply.tokens),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
        }
        if called:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in one.calls
            ]
        return message | {"reasoning": None}

    def _delta(self, choice: int, place: int) -> Json | None:
        one = self._asked.choices[choice]
        if one.calls:
            return self._deltas[choice][place]
        text = one.reply.tokens[place]
        # A parser of tool calls, which sees every token, has nothing to tell of an empty one.
        return {"content": text} if text or not self._asked.parsed else None

    def _text(self, choice: int, first: int, end: int) -> str:
        asked = self._asked
        text = asked.prompt_of(choice).text if asked.echo and first == 0 else ""
        return text if asked.only_echo else text + "".join(asked.choices[choice].reply.tokens[first:end])

    def _content(self, choice: int, first: int, end: int) -> Json | None:
        asked = self._asked
        if asked.logprobs is None:
            return None
        tokens = asked.choices[choice].reply.tokens
        return {"content": [chat_entry(tokens[i], i, asked.logprobs, asked.name) for i in range(first, end)]}

    def _block(self, choice: int, first: int, end: int) -> Json | None:
        asked = self._asked
        if asked.logprobs is None:
            return None
        prompt = asked.prompt_of(choice).tokens if asked.echo else ()
        tokens = () if asked.only_echo else asked.choices[choice].reply.tokens
        before = [*prompt, *tokens[:first]] if first else []
        offset = sum(len(asked.name(token)) for token in before)
        return completion_block(() if first else prompt, tokens[first:end], first, offset, asked.logprobs, asked.name)

    def _ids(self, choice: int, first: int, count: int) -> list[int] | None:
        asked = self._asked
        if not asked.token_ids:
            return None
        return [asked.name.number(token) for token in asked.choices[choice].reply.tokens[first : first + count]]
