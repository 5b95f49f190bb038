"""Each of the four models sees a conversation in the format that it was trained with."""

from __future__ import annotations

from typing import Any

import pytest

from suites.conformance.wire import CHAT, Server

Models = dict[str, Server]
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye now"},
]
ALONE = [{"role": "user", "content": "Hi there"}]
# The formats as their makers publish them: Mistral's [INST], ChatML of Hermes 2, OpenChat 3.5's and Phi-3's.
WHOLE = {
    "mixtral": "<s>[INST] Be brief.\n\nHi there [/INST] Hello</s>[INST] Bye now [/INST]",
    "hermes": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n"
    "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye now<|im_end|>\n<|im_start|>assistant\n",
    "openchat": "<s>GPT4 Correct System: Be brief.<|end_of_turn|>GPT4 Correct User: Hi there<|end_of_turn|>"
    "GPT4 Correct Assistant: Hello<|end_of_turn|>GPT4 Correct User: Bye now<|end_of_turn|>GPT4 Correct Assistant:",
    "phi3": "<|system|>\nBe brief.<|end|>\n<|user|>\nHi there<|end|>\n<|assistant|>\nHello<|end|>\n"
    "<|user|>\nBye now<|end|>\n<|assistant|>\n",
}
ONE_TURN = {
    "mixtral": "<s>[INST] Hi there [/INST]",
    "hermes": "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
    "openchat": "<s>GPT4 Correct User: Hi there<|end_of_turn|>GPT4 Correct Assistant:",
    "phi3": "<|user|>\nHi there<|end|>\n<|assistant|>\n",
}
GENERATION = {
    "mixtral": "",
    "hermes": "<|im_start|>assistant\n",
    "openchat": "GPT4 Correct Assistant:",
    "phi3": "<|assistant|>\n",
}


def rendered(server: Server, messages: list[dict[str, str]], **fields: Any) -> str:
    """Return the text that the model sees: the tokens of the conversation, turned into text again."""
    tokens = server.post("/tokenize", {"messages": messages, **fields}).json["tokens"]
    answer = server.post("/detokenize", {"tokens": tokens})
    assert answer.status == 200, answer.text
    return str(answer.json["prompt"])


@pytest.mark.parametrize("name", WHOLE)
def test_a_conversation(models: Models, name: str) -> None:
    """System, user and assistant are written in the model's own format, ready for its next turn."""
    assert rendered(models[name], CONVERSATION) == WHOLE[name]


@pytest.mark.parametrize("name", WHOLE)
def test_one_turn(models: Models, name: str) -> None:
    """A single question without a system message is written in the model's own format."""
    assert rendered(models[name], ALONE) == ONE_TURN[name]


@pytest.mark.parametrize("name", WHOLE)
def test_without_the_models_turn(models: Models, name: str) -> None:
    """Without the generation prompt the text ends before the model's next turn."""
    text = rendered(models[name], CONVERSATION, add_generation_prompt=False)

    assert text == WHOLE[name].removesuffix(GENERATION[name])


@pytest.mark.parametrize("name", WHOLE)
def test_the_marks_are_tokens(models: Models, name: str) -> None:
    """The marks of a turn are counted: a further message costs more than its words, and always the same."""

    def count(turns: int) -> int:
        return int(models[name].post("/tokenize", {"messages": ALONE * turns}).json["count"])

    words = len(models[name].post("/tokenize", {"prompt": "Hi there", "add_special_tokens": False}).json["tokens"])

    assert count(3) - count(2) == count(2) - count(1) > words


@pytest.mark.parametrize("name", WHOLE)
def test_a_chat_is_what_tokenize_says(models: Models, name: str) -> None:
    """An answer's usage counts the conversation as /tokenize does, template included."""
    counted = models[name].post("/tokenize", {"messages": CONVERSATION}).json["count"]
    answer = models[name].post(CHAT, {"messages": CONVERSATION, "max_tokens": 1})

    assert answer.usage["prompt_tokens"] == counted


@pytest.mark.parametrize("name", WHOLE)
def test_a_turn_ends_by_itself(models: Models, name: str) -> None:
    """The mark that ends the model's turn ends the answer, and is not part of it."""
    answer = models[name].chat("Hi there", max_tokens=500)

    assert answer.choice()["finish_reason"] == "stop"
    assert not {"</s>", "<|im_end|>", "<|end_of_turn|>", "<|end|>"} & set(answer.choice()["message"]["content"].split())
