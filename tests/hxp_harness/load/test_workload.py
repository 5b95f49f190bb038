"""Each request asks what the contract says, drawn so that one choice does not move another."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from hxp_harness.contract import Contract
from hxp_harness.errors import UsageError
from hxp_harness.load.corpus import read_texts
from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.request import Renderer
from hxp_harness.load.schedule import draw
from hxp_harness.profile import Replicates

REPLICATES = Replicates.model_validate({"count": 2, "requests": 300, "warm_up": "0 s"})
VARIED = {"kind": "lognormal", "sd": 40}
SHARED = [
    {"id": "a", "conversations": [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "1"}]},
    {"id": "b", "conversations": [{"from": "gpt", "value": "I begin"}]},
    {"id": "c", "conversations": []},
    {"id": "d", "conversations": [{"from": "human", "value": "Two?"}]},
]
LINES = [
    {"prompt": "Three?", "output_tokens": 7, "tag": "gold"},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Four?"}]},
]


def contract(**more: object) -> Contract:
    return Contract.model_validate({"prompt_tokens": 128, "output_tokens": 64, "rate": "50 rps", **more})


def test_lengths_vary_each_for_itself() -> None:
    """Varied prompts leave answers, words and times as they were, and name their bucket."""
    plain, varied = draw(contract(), REPLICATES, 1), draw(contract(prompt_lengths=VARIED), REPLICATES, 1)
    even = {"kind": "uniform", "from": 1, "to": 127}
    both = draw(contract(prompt_lengths=VARIED, output_lengths=even), REPLICATES, 1)
    assert [(due.seed, due.intended_s, due.output_tokens) for due in plain] == [
        (due.seed, due.intended_s, due.output_tokens) for due in varied
    ]
    assert [due.prompt_tokens for due in varied] == [due.prompt_tokens for due in both]
    assert len({due.prompt_tokens for due in varied}) > 50
    assert len({due.output_tokens for due in both}) > 50
    assert {due.tag for due in plain} == {""}
    assert {"in128-out64", "in256-out64"} <= {due.tag for due in varied}


def test_beginnings_are_shared_by_groups() -> None:
    """So many beginnings, each of them as often as chance has it, and no two requests alike."""
    schedule = draw(contract(prefix={"tokens": 96, "groups": 3}, cache="any", prompt_lengths=VARIED), REPLICATES, 1)
    groups = Counter(due.prefix_seed for due in schedule)
    assert len(groups) == 3
    assert min(groups.values()) > 150
    assert {due.prefix_tokens for due in schedule} == {96}
    assert len({due.seed for due in schedule}) == len(schedule)


def write(folder: Path, *, lines: bool) -> Path:
    file = folder / ("prompts.jsonl" if lines else "sharegpt.json")
    file.write_text("\n".join(map(json.dumps, LINES)) + "\n\n" if lines else json.dumps(SHARED))
    return file


def test_sharegpt_is_asked_where_a_person_begins(tmp_path: Path) -> None:
    """The first turn of each conversation that a person opens, in the order of the file."""
    texts = read_texts(write(tmp_path, lines=False), single=True)
    assert [text.messages for text in texts] == [
        ({"role": "user", "content": "One?"},),
        ({"role": "user", "content": "Two?"},),
    ]


def test_texts_of_a_file_are_asked_in_an_order_of_chance(tmp_path: Path) -> None:
    """All are taken before one is taken again; lengths that the file gives are asked for, and tags are kept."""
    file = write(tmp_path, lines=True)
    schedule = draw(contract(prompts={"file": str(file)}, cache="any"), REPLICATES, 1)
    firsts = [due.messages[-1]["content"] for due in schedule]
    assert all(set(firsts[place : place + 2]) == {"Three?", "Four?"} for place in range(0, 600, 2))
    assert len({tuple(firsts[place : place + 2]) for place in range(0, 600, 2)}) == 2
    assert {(due.messages[-1]["content"], due.output_tokens, due.tag) for due in schedule} == {
        ("Three?", 7, "gold"),
        ("Four?", 64, "in128-out64"),
    }
    with pytest.raises(UsageError, match="has 2 prompts, the run needs 600"):
        draw(contract(prompts={"file": str(file)}), REPLICATES, 1)


def test_messages_of_a_file_reach_the_target() -> None:
    """Through the chat API as they are, the last one asked; through the other as the prompt."""
    chat = Renderer(LoadPlan("http://h/v1", "m", "chat", True, 1.0), "", "r")
    said = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Four?"})
    body = json.loads(chat.request(Due(0, 0, 0.0, 8, 4, 1, messages=said)).partition(b"\r\n\r\n")[2])
    assert body["messages"] == list(said)
    plain = Renderer(LoadPlan("http://h/v1", "m", "completions", True, 1.0), "", "r")
    body = json.loads(plain.request(Due(0, 0, 0.0, 8, 4, 1, messages=said[1:])).partition(b"\r\n\r\n")[2])
    assert body["prompt"] == "Four?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{]", "is no ShareGPT file"),
        ("[]", "holds no prompts"),
        ('{"prompt": "a"}\n{"prompt": "a", "message": 1}\n', "line 2"),
        ('{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}\n', "it takes prompt, or messages"),
        ('{"messages": [{"role": "assistant", "content": "b"}]}\n', "the last is the user's"),
        ('{"messages": [{"role": "user"}]}\n', "line 1"),
        ('{"prompt": "a", "output_tokens": 0}\n', "line 1"),
        ('{"prompt": "a", "tag": "for gold"}\n', "a tag of letters"),
        ("{}\n", "line 1"),
    ],
)
def test_a_wrong_file_of_prompts_is_named(tmp_path: Path, text: str, said: str) -> None:
    """File, line and an example stand in the refusal."""
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"prompts\.jsonl") as refusal:
        read_texts(file, single=False)
    assert said in str(refusal.value)


def test_prompts_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    """Messages need the chat API, and a file that is not there is named."""
    with pytest.raises(UsageError, match="prompt 2 has several messages"):
        read_texts(write(tmp_path, lines=True), single=True)
    with pytest.raises(UsageError, match="cannot read the prompts"):
        read_texts(tmp_path / "none", single=False)
