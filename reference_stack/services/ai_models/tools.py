"""Tool calls in scripted form: which function is called, with arguments that its schema accepts, and how they stream.

The model's text is that of Hermes: `<tool_call>` around a JSON object with name and arguments. As vLLM's parser does,
a stream sends the name once it is complete, then the text of the arguments, and nothing of the rest.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reference_stack.schemas.api.openai import ChatRequest, Function
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.schema import instance
from reference_stack.services.ai_models.structured import json_text

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `arguments` is JSON."""

    name: str
    arguments: str
    id: str

    @property
    def opening(self) -> str:
        """The text up to the arguments; the name is complete with it."""
        return f'<tool_call>\n{{"name": "{self.name}", "arguments": '

    @property
    def text(self) -> str:
        return f"{self.opening}{self.arguments}}}\n</tool_call>"


def make_call(name: str, arguments: object) -> Call:
    return Call(name, json_text(arguments), f"chatcmpl-tool-{uuid.uuid4().hex[:16]}")


def chosen(body: ChatRequest, said: str, *, parses: bool) -> Function | None:
    """Return the function to call, None for a reply in words.

    `required` calls the first, `auto` the first whose name is in `said`, the last message. Raises ApiError as vLLM
    does; `parses` is whether the server was started with a parser of tool calls.
    """
    _check(body)
    if not body.tools or body.tool_choice == "none":
        return None
    functions = [tool.function for tool in body.tools]
    choice = body.tool_choice
    if choice is None or choice == "auto":
        if not parses:
            raise ApiError('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
        return next((function for function in functions if function.name in said), None)
    named = _named(choice)
    if not parses:
        what = '"required"' if named is None else f'function "{named}"'
        raise ApiError(f"tool_choice={what} requires --tool-call-parser to be set")
    return next(function for function in functions if named in (None, function.name))


def free(body: ChatRequest) -> bool:
    """Whether the model may call a tool or not, as it likes: then a parser looks for calls in what it says."""
    return bool(body.tools) and body.tool_choice in (None, "auto")


def call_of(function: Function, draw: random.Random) -> Call:
    """Return a call of `function` with arguments that its schema accepts."""
    return make_call(function.name, instance(function.parameters or _NO_PARAMETERS, draw))


def named_choice(body: ChatRequest) -> bool:
    """Whether the request names the function: then a call ends with `stop`, not `tool_calls`."""
    return isinstance(body.tool_choice, dict)


def deltas(calls: Sequence[Call], tokens: Sequence[str]) -> Iterator[dict[str, Any] | None]:
    """Yield for each of `tokens`, which make the text of `calls`, what a stream sends of it; None where nothing."""
    spans = []
    end = 0
    for call in calls:
        start = end + len(call.opening)
        spans.append((call, start - len('", "arguments": '), start, start + len(call.arguments)))
        end += len(call.text)
    at = 0
    for token in tokens:
        after = at + len(token)
        parts: list[dict[str, Any]] = []
        for index, (call, named, start, stop) in enumerate(spans):
            if at < named + 1 <= after:
                parts.append({"id": call.id, "type": "function", "index": index, "function": {"name": call.name}})
            piece = call.arguments[max(at - start, 0) : max(min(after, stop) - start, 0)]
            if piece:
                parts.append({"index": index, "function": {"arguments": piece}})
        yield {"content": None, "tool_calls": parts} if parts else None
        at = after


def _check(body: ChatRequest) -> None:
    choice = body.tool_choice
    if choice is None or choice in ("none", "auto"):
        return
    named = _named(choice)
    if named is not None and all(tool.function.name != named for tool in body.tools or ()):
        raise ApiError(
            "The tool specified in `tool_choice` does not match any of the specified `tools` (parameter=tool_choice)",
            param="tool_choice",
        )


def _named(choice: str | dict[str, Any]) -> str | None:
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
