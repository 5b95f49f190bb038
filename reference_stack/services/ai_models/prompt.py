"""The prompts of a request as tokens: a chat under its template, a text, or numbers as they were given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reference_stack.schemas.api.openai import CompletionRequest
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.body import encodable
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.reply import tokenize
from reference_stack.services.ai_models.tiny import CONTROLS

BEGIN = "<s>"
_SEEN_OR_HEARD = ("image_url", "input_audio", "audio_url", "video_url")  # parts for models that take more than text


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: `text` is what its sender wrote, `tokens` what the engine computes (numbers where it sent those)."""

    text: str
    tokens: tuple[str | int, ...]


def chat_prompt(messages: list[dict[str, Any]], spec: ModelSpec) -> Prompt:
    """Return a conversation under the model's template.

    The template's own tokens stand for its marks. Those of a message come before its words, but those of an earlier
    reply after them, so that a conversation that goes on begins with the tokens of the one before.
    """
    if not messages:
        raise ApiError("Cannot apply chat template to an empty conversation. Provide at least one message.")
    template = spec.template
    for message in messages:
        for text in message_texts(message, spec.name):
            _check_text(text)
    texts = [list(message_texts(message, spec.name)) for message in messages]
    tokens = [BEGIN] * template.base_tokens
    for message, parts in zip(messages, texts, strict=True):
        marks = [f"<{message.get('role')}>"] * template.message_tokens
        words = [token for text in parts for token in tokenize(text)]
        tokens += words + marks if message.get("role") == "assistant" else marks + words
    return Prompt("\n".join(text for parts in texts for text in parts), tuple(tokens))


def message_texts(message: dict[str, Any], model: str) -> Iterable[str]:
    """Yield the texts of one message to `model`: its string, or the text parts of its list."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(part, dict) and part.get("type") in _SEEN_OR_HEARD:
                raise ApiError(f"{model} is not a multimodal model")
            if not isinstance(text, str):
                raise ApiError("Only text parts are supported by this model")
            yield text


def text_prompt(text: str) -> Prompt:
    """Return a text as a prompt; raise ApiError where no tokenizer could take it."""
    _check_text(text)
    return Prompt(text, (BEGIN, *tokenize(text)))


def _check_text(text: str) -> None:
    if not encodable(text):
        raise ApiError("TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence, InputSequence]]")


def completion_prompts(body: CompletionRequest, spec: ModelSpec) -> tuple[Prompt, ...]:
    """Return the prompts of a text completion, one or several."""
    given = body.prompt
    if not given:
        raise ApiError("You must pass at least one prompt")
    return tuple(_prompts(given, spec))


def embedding_prompts(given: str | list[str] | list[int] | list[list[int]], spec: ModelSpec) -> tuple[Prompt, ...]:
    """Return the texts or tokens that vectors are asked of, one or several.

    None of them may be empty; a text is not where the model's tokenizer puts a sign before it.
    """
    if not given and given != "":
        raise ApiError("You must pass at least one prompt")
    begins = CONTROLS[spec.template.family].bos
    if not begins and (given == "" or (isinstance(given, list) and "" in given)):
        raise ApiError("The decoder prompt cannot be empty")
    return tuple(_prompts(given, spec))


def _prompts(given: str | list[str] | list[int] | list[list[int]], spec: ModelSpec) -> Iterator[Prompt]:
    if isinstance(given, str):
        yield text_prompt(given)
    elif isinstance(given[0], int):
        yield _token_prompt(given, spec)
    else:
        for item in given:
            yield text_prompt(item) if isinstance(item, str) else _token_prompt(item, spec)


def _token_prompt(ids: Any, spec: ModelSpec) -> Prompt:
    if not ids:
        raise ApiError("The decoder prompt cannot be empty")
    for number in ids:
        if not 0 <= number < spec.architecture.vocab:
            raise ApiError(f"Token id {number} is out of vocabulary")
    return Prompt(" ".join(map(str, ids)), tuple(ids))
