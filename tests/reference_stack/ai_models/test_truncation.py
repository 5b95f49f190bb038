"""A prompt cut to so many tokens: which are kept, what its text is then, and what is refused."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.prompt import Prompt, text_prompt
from reference_stack.services.ai_models.truncation import truncated


@given(
    ids=st.lists(st.integers(0, 99), min_size=1, max_size=20),
    keep=st.one_of(st.none(), st.integers(-1, 20)),
    side=st.sampled_from(("left", "right")),
    answers=st.booleans(),
)
def test_so_many_tokens_are_kept(
    ids: list[int], keep: int | None, side: Literal["left", "right"], answers: bool
) -> None:
    """The end or the beginning stays, never more than asked for; -1 leaves room for a token to be made."""
    (cut,) = truncated([Prompt("", tuple(ids))], keep, side, 20, answers=answers)

    most = len(ids) if keep is None else 20 - answers if keep < 0 else keep
    kept = min(most, len(ids))
    assert list(cut.tokens) == (ids[len(ids) - kept :] if side == "left" else ids[:kept])


def test_the_text_is_that_of_the_tokens_that_stay() -> None:
    """What an echo repeats of a cut text is its rest, without the sign before it."""
    prompt = text_prompt("one two three")
    (end,) = truncated([prompt], 2, "left", 20, answers=True)
    (beginning,) = truncated([prompt], 2, "right", 20, answers=True)

    assert prompt.text.endswith(end.text)
    assert prompt.text.startswith(beginning.text)
    assert len(beginning.text) < len(end.text) < len(prompt.text)


def test_more_than_the_model_can_is_refused() -> None:
    """A cut beyond the model's length is 400 with vLLM's words."""
    with pytest.raises(
        ApiError, match=r"truncate_prompt_tokens=21 cannot be greater than max_model_len = 20"
    ) as caught:
        truncated([], 21, "left", 20, answers=True)
    assert caught.value.status == 400
