"""A prompt cut to so many tokens, as `truncate_prompt_tokens` asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from reference_stack.services.ai_models.api_error import bad_value
from reference_stack.services.ai_models.prompt import BEGIN, Prompt

Side = Literal["left", "right"]


def truncated(
    prompts: Sequence[Prompt], keep: int | None, side: Side, max_model_len: int, *, answers: bool
) -> tuple[Prompt, ...]:
    """Return `prompts` without what `side` has beyond `keep` tokens; None keeps all, -1 what the model can take.

    That is its length, less one where it `answers` and was told how many tokens, as in vLLM. Raises ApiError where
    `keep` is beyond the length.
    """
    if keep is None:
        return tuple(prompts)
    if keep > max_model_len:
        message = (
            f"truncate_prompt_tokens={keep} cannot be greater than {max_model_len = }. Please request a smaller "
            "truncation size."
        )
        raise bad_value(message, "truncate_prompt_tokens", keep)
    most = keep if keep >= 0 else max_model_len - answers
    return tuple(_cut(prompt, most, side) for prompt in prompts)


def _cut(prompt: Prompt, most: int, side: Side) -> Prompt:
    tokens = prompt.tokens
    if len(tokens) <= most:
        return prompt
    kept = tokens[len(tokens) - most :] if side == "left" else tokens[:most]
    words = all(isinstance(token, str) for token in kept)
    return Prompt(("" if words else " ").join(str(token) for token in kept if token != BEGIN), kept)
