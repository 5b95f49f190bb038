"""The differential fuzz: what it generates, what it takes for a difference, and that it finds one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from hxp_harness.certify.golden_process import golden
from hxp_harness.stack import RunningStack
from hxp_harness.target import Target
from suites.conformance.fuzz.comparison import Comparison
from suites.conformance.fuzz.grammar import CASES, Case, base
from suites.conformance.fuzz.likeness import class_of, differences
from suites.conformance.fuzz.settled import Settled, left_over, read
from suites.conformance.wire import CHAT, COMPLETIONS, Answer, Server

JSON = {"content-type": "application/json"}


def answer(status: int, body: object) -> Answer:
    return Answer(status, JSON, json.dumps(body).encode())


def refusal(message: str = "no", **error: object) -> Answer:
    return answer(400, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400} | error})


def served(tokens: int = 3, reason: str = "length", **more: object) -> Answer:
    usage = {"prompt_tokens": 2, "completion_tokens": tokens, "total_tokens": 2 + tokens}
    return answer(200, {"choices": [{"index": 0, "text": "x", "finish_reason": reason} | more], "usage": usage})


def compared(case: Case, left: Answer, right: Answer) -> list[str]:
    return differences(case, class_of(case, left), class_of(case, right))


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(CASES)
def test_every_case_can_be_sent(case: Case) -> None:
    """Whatever is generated has a body of bytes, headers of ASCII and a known number of oddities."""
    assert isinstance(case.body, bytes)
    assert all(value.isascii() for value in case.headers.values())
    assert 0 <= case.odd <= 4
    asked = (case.fields or {}).get("n")
    assert not isinstance(asked, int) or not 4 < asked <= 16384  # would be served, for minutes


def test_the_text_is_no_difference() -> None:
    """Other words, other log-probabilities and another stop string are alike."""
    case = Case(COMPLETIONS, base(COMPLETIONS))

    assert compared(case, served(), served(text="other", stop_reason=None)) == [
        "/v1/completions fields: [] | ['.choices[].stop_reason *']"
    ]
    assert compared(case, served(stop_reason="a"), served(text="other", stop_reason=None)) == []


@pytest.mark.parametrize(
    ("left", "right", "line"),
    [
        (served(), refusal(), "status: 200 | 400 BadRequestError no"),
        (served(), served(tokens=4), "completion tokens: 3 | 4"),
        (served(), served(reason="stop"), "reasons: ['length'] | ['stop']"),
        (served(), served(extra=1), "fields: [] | ['.choices[].extra number']"),
        (refusal(), refusal(param="n"), "param: None | n (no)"),
        (refusal(), refusal(type="Bad Request"), "type: BadRequestError | Bad Request (no)"),
        (refusal(), answer(400, {"detail": "x"}), "body: ['code', 'message', 'param', 'type'] | {\"detail\": \"x\"}"),
        (answer(200, {"a": 1}), answer(200, {"a": "1"}), "fields: ['.a number'] | ['.a str']"),
        (answer(200, {"a": 1}), Answer(200, {}, b""), "content: application/json | "),
    ],
)
def test_what_is_a_difference(left: Answer, right: Answer, line: str) -> None:
    """Another status, field, type, reason, count or content is told in one line."""
    assert f"/v1/completions {line}" in compared(Case(COMPLETIONS, base(COMPLETIONS), odd=1), left, right)


def test_which_of_several_mistakes_is_told_is_free() -> None:
    """With several mistakes any refusal is as good as another; one refusal and one answer are not alike."""
    case = Case(COMPLETIONS, base(COMPLETIONS), odd=2)

    assert compared(case, refusal(), refusal(param="n", type="x")) == []
    assert compared(case, refusal(), served()) != []


def test_numbers_in_messages_are_no_difference() -> None:
    """A refusal that counts something else is the same refusal."""
    case = Case(CHAT, base(CHAT), odd=1)

    assert compared(case, refusal("got 7"), refusal("got 8")) == []
    assert compared(case, refusal(param="a.1.b"), refusal(param="a.2.b")) == []


def test_a_settled_difference_covers_its_lines_only() -> None:
    """A row covers what it says, with * for anything, and nothing else."""
    row = Settled("/v1/* param: * | None (x [*", "", {})

    assert left_over(["/v1/chat param: n | None (x [1])", "/v1/chat param: n | m (x [1])"], [row]) == [
        "/v1/chat param: n | m (x [1])"
    ]


def test_our_settled_differences_are_few() -> None:
    """Each has a reason and an example, and they are a short list."""
    rows = read()

    assert 0 < len(rows) <= 10
    assert all(row.reason and row.example["path"] for row in rows)


@pytest.fixture
def unlike(tmp_path: Path, start_stack: Callable[..., RunningStack]) -> Iterator[Comparison]:
    """The simulation beside a server that is none: the golden server checks nothing."""
    with (
        golden(tmp_path, model="phi3") as server,
        Server(start_stack("phi3", options={"device": "ideal"}).target("phi3")) as simulated,
        Server(Target(server.base_url, server.model)) as other,
    ):
        yield Comparison(simulated, other)


def test_a_difference_is_found_and_made_small(unlike: Comparison) -> None:
    """A request that two servers answer otherwise is kept, and shrunk to the field that does it."""
    unlike.keep(Case(COMPLETIONS, base(COMPLETIONS) | {"temperature": -1, "user": "me", "top_p": 0.5}, odd=1))
    [line] = [line for line in unlike.found if " status: 400" in line]

    assert unlike.asked.total() == 1
    assert dict(unlike.shrink(line).fields or {}) == {"prompt": "Hello", "temperature": -1}
