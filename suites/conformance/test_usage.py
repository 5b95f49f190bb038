"""What is counted adds up."""

from __future__ import annotations

import pytest

from suites.conformance.wire import CHAT, COMPLETIONS, Server


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_parts_make_the_total(server: Server, path: str, stream: bool, n: int) -> None:
    """Prompt and completion tokens are the total; the tokens of n choices are counted together, the prompt once."""
    options = {"stream_options": {"include_usage": True}} if stream else {}
    asked = {"temperature": 1, "seed": 3, "max_tokens": 5, "ignore_eos": True}
    one = server.ask(path, **asked).usage
    use = server.ask(path, stream=stream, n=n, **asked, **options).usage

    assert use["prompt_tokens"] + use["completion_tokens"] == use["total_tokens"]
    assert use["completion_tokens"] == 5 * n
    assert use["prompt_tokens"] == one["prompt_tokens"] > 0


def test_the_prompt_is_what_tokenize_counts(server: Server) -> None:
    """The prompt's tokens in a usage are those that /tokenize counts, of a text and of a conversation."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One two three."}]
    counted = server.post("/tokenize", {"messages": messages}).json["count"]
    text = server.post("/tokenize", {"prompt": "One two three."}).json["count"]

    assert server.post(CHAT, {"messages": messages, "max_tokens": 1}).usage["prompt_tokens"] == counted
    assert server.complete("One two three.").usage["prompt_tokens"] == text


def test_token_numbers_count_one_each(server: Server) -> None:
    """A prompt of token numbers has as many tokens as numbers."""
    assert server.complete([5, 6, 7, 8]).usage["prompt_tokens"] == 4


@pytest.mark.parametrize("prompts", [["One", "Two words"], [[5, 6], [7, 8, 9]]], ids=["texts", "numbers"])
def test_a_list_of_prompts(server: Server, prompts: list[object]) -> None:
    """A list of prompts gets n choices each, in order, and one usage over all."""
    answer = server.complete(prompts, n=2, temperature=1, seed=1, max_tokens=2, ignore_eos=True)
    alone = [server.complete(prompt).usage["prompt_tokens"] for prompt in prompts]

    assert [choice["index"] for choice in answer.json["choices"]] == [0, 1, 2, 3]
    assert answer.usage["prompt_tokens"] == sum(alone)
    assert answer.usage["completion_tokens"] == 8


def test_echo_is_not_counted(server: Server) -> None:
    """With echo the text begins with the prompt, which is counted as prompt only."""
    answer = server.complete("Hello world", echo=True, max_tokens=3, ignore_eos=True)

    assert answer.choice()["text"].startswith("Hello world")
    assert len(answer.choice()["text"]) > len("Hello world")
    assert answer.usage["completion_tokens"] == 3


def test_a_completion_has_16_tokens_unless_asked(server: Server) -> None:
    """A text completion without max_tokens has 16 tokens at most."""
    answer = server.post(COMPLETIONS, {"prompt": "Hello", "ignore_eos": True})

    assert answer.usage["completion_tokens"] == 16


def test_a_seed_repeats(server: Server, path: str) -> None:
    """The same seed gives the same choices again."""
    first, second = (server.ask(path, n=2, seed=11, temperature=1, max_tokens=12) for _ in range(2))
    said = [[choice.get("message", choice) for choice in answer.json["choices"]] for answer in (first, second)]
    texts = [[part.get("content", part.get("text")) for part in row] for row in said]

    assert texts[0] == texts[1]
