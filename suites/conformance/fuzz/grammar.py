"""Which requests are generated: good, borderline and broken ones, each with how many things are odd about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from suites.conformance.wire import CHAT, COMPLETIONS

JSON = "application/json"
# Numbers at which something changes.
NUMBERS = (
    0,
    1,
    2,
    3,
    -1,
    -2,
    20,
    21,
    2049,
    100_000,
    2**31,
    2**63 - 1,
    2**63,
    10**30,
    0.0,
    -0.0,
    0.5,
    1.0,
    2.0,
    2.5,
    1e308,
)
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "1",
    "true",
    "x",
    "\u2603",
    "\ud800",
    "\x00",
    [],
    {},
    [1],
    ["a"],
    {"a": 1},
    float("nan"),
    float("inf"),
)
ANYTHING = st.sampled_from((*NUMBERS, *ODD))
# So many replies to one request would be served, and take long.
NOT_MANY = ANYTHING.filter(lambda count: not (isinstance(count, int) and 4 < count <= 16384))
TEXTS = st.one_of(
    st.sampled_from(
        ("Hello world", "x", " ", "\n", "\u2028", "\U0001f600 caf\u00e9", "[/INST] </s> <|im_end|>", "a" * 300)
    ),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
)
PARTS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
    st.sampled_from(({"type": "text"}, {"text": "x"}, {"type": "no such type"}, {}, "x", 7)),
)
MESSAGES = st.one_of(
    st.builds(
        lambda role, text: {"role": role, "content": text}, st.sampled_from(("user", "system", "assistant")), TEXTS
    ),
    st.builds(lambda parts: {"role": "user", "content": parts}, st.lists(PARTS, max_size=2)),
    st.fixed_dictionaries(
        {}, optional={"role": st.sampled_from(("user", "assistant", "tool", "martian", 7, None)), "content": ANYTHING}
    ),
    ANYTHING,
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weigh", "parameters": SCHEMA}}

# field -> values that are good or nearly so; every field also gets ANYTHING
SHARED: Mapping[str, SearchStrategy[Any]] = {
    "model": st.sampled_from((None, "", "no-such-model", "Mixtral")),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries(
        {}, optional={"include_usage": st.booleans(), "continuous_usage_stats": st.booleans()}
    ),
    "n": st.integers(0, 4),
    "max_tokens": st.integers(-1, 8),
    "temperature": st.floats(-0.1, 2.1),
    "top_p": st.floats(-0.1, 1.1),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "presence_penalty": st.floats(-2.1, 2.1),
    "frequency_penalty": st.floats(-2.1, 2.1),
    "repetition_penalty": st.floats(-0.1, 2.1),
    "top_k": st.integers(-3, 5),
    "min_p": st.floats(-0.1, 1.1),
    "bad_words": st.lists(st.sampled_from(("e", "")), max_size=2),
    "allowed_token_ids": st.lists(st.sampled_from((5, 6)), max_size=2),
    "stop": st.one_of(st.sampled_from(("e", "", "\u2603")), st.lists(st.sampled_from(("e", " ", "", 7)), max_size=3)),
    "include_stop_str_in_output": st.booleans(),
    "ignore_eos": st.booleans(),
    "min_tokens": st.integers(-1, 9),
    "truncate_prompt_tokens": st.sampled_from((-2, -1, 0, 1, 3, 2048, 2049, "2", None)),
    "truncation_side": st.sampled_from(("left", "right", "middle", None, 7)),
    "logit_bias": st.dictionaries(
        st.sampled_from(("5", "7", "x", "-1", "99999999", "1.5")),
        st.sampled_from((1, -100, 200, "x", None)),
        max_size=2,
    ),
    "cache_salt": st.sampled_from(("salt", "")),
    "return_token_ids": st.booleans(),
    "prompt_logprobs": st.integers(-2, 22),
    "response_format": st.one_of(
        st.sampled_from(("text", "json_object", "json_schema", "no such type")).map(lambda kind: {"type": kind}),
        st.sampled_from((SCHEMA, {"type": "wibble"}, None, 7)).map(
            lambda schema: {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        ),
    ),
    "structured_outputs": st.sampled_from(
        (
            {"choice": ["a", "b"]},
            {"choice": []},
            {"regex": "[0-9]{2}"},
            {"regex": "("},
            {"json": SCHEMA},
            {"json": "{"},
            {},
        )
    ),
    "user": st.sampled_from(("me", 7)),
    "no_such_field": ANYTHING,
}
OF_A_CHAT: Mapping[str, SearchStrategy[Any]] = {
    "messages": st.lists(MESSAGES, max_size=3),
    "max_completion_tokens": st.integers(-1, 8),
    "reasoning_effort": st.sampled_from(("none", "low", "max", "huge")),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(-2, 22),
    "tools": st.sampled_from(([TOOL], [TOOL, TOOL], [], [{"type": "function"}], [{"function": {"name": "x"}}])),
    "tool_choice": st.sampled_from(
        (
            *("none", "auto", "required", "maybe", {"type": "function"}),
            *({"type": "function", "function": {"name": name}} for name in ("weigh", "other", "")),
        )
    ),
}
OF_A_COMPLETION: Mapping[str, SearchStrategy[Any]] = {
    "prompt": st.one_of(
        TEXTS,
        st.lists(TEXTS, max_size=3),
        st.lists(st.sampled_from((5, 6, 99_999_999, -1)), max_size=3),
        st.lists(st.lists(st.sampled_from((5, 6)), max_size=2), max_size=3),
    ),
    "echo": st.booleans(),
    "logprobs": st.integers(-2, 22),
    "suffix": st.sampled_from(("", "x")),
}
OF_TOKENS: Mapping[str, SearchStrategy[Any]] = {
    "prompt": TEXTS,
    "messages": st.lists(MESSAGES, max_size=2),
    "model": st.sampled_from((None, "", "no-such-model")),
    "add_special_tokens": st.booleans(),
    "return_token_strs": st.booleans(),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `fields` is its body as an object, None where `raw` is sent instead. `odd` counts its oddities."""

    path: str
    fields: Mapping[str, Any] | None = None
    raw: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": JSON})
    odd: int = 0

    @property
    def body(self) -> bytes:
        return self.raw if self.fields is None else json.dumps(self.fields).encode()

    def without(self, name: str) -> Case:
        """Return the same request without one field of its body."""
        return replace(self, fields={key: value for key, value in (self.fields or {}).items() if key != name})


def base(path: str) -> dict[str, Any]:
    """Return a good body of few tokens, of a length that the model does not choose."""
    asked: dict[str, Any] = (
        {"messages": [{"role": "user", "content": "Hello"}]} if path == CHAT else {"prompt": "Hello"}
    )
    return asked | {"max_tokens": 3, "ignore_eos": True}


@st.composite
def bodies(draw: st.DrawFn) -> Case:
    """Draw a request whose body is an object with up to three fields changed."""
    path = draw(st.sampled_from((CHAT, COMPLETIONS)))
    table = {**SHARED, **(OF_A_CHAT if path == CHAT else OF_A_COMPLETION)}
    fields = base(path)
    names = draw(st.lists(st.sampled_from(sorted(table)), min_size=0, max_size=3, unique=True))
    odd = len(names)
    for name in names:
        fields[name] = draw(st.one_of(table[name], table[name], NOT_MANY if name == "n" else ANYTHING))
    if draw(st.integers(0, 19)) == 0:
        fields.pop("prompt" if path == COMPLETIONS else "messages", None)
        odd += 1
    if draw(st.integers(0, 3)) == 0:
        fields.setdefault("stream", True)
    return Case(path, fields, odd=odd)


def spoilt(good: bytes) -> tuple[bytes, ...]:
    """Return bodies that are not the object which they should be, or only just."""
    inside = good[:-1]  # without the closing brace
    added = (
        b', "n": 1' + b"0" * 5000,
        b', "n": 01',
        b', "temperature": 1e400',
        b', "temperature": NaN',
        b', "seed": 1, "seed": "x"',
        b', "user": ' + b"[" * 50 + b"]" * 50,
        b', "user": ' + b"[" * 5000 + b"]" * 5000,
        b', "user": "\\ud800"',
        b', "user": "\x01"',
        b",",
    )
    whole = (b"", b" ", b"null", b"7", b'"x"', b"[]", b"{}", b"\xff\xfe", b"[" + good + b"]", good.replace(b'"', b"'"))
    ends = (good + b"}", good + b" x", good + b" ", b"\xef\xbb\xbf" + good, good.decode().encode("utf-16"))
    return (*whole, *ends, *(inside + text + b"}" for text in added))


@st.composite
def broken_texts(draw: st.DrawFn) -> Case:
    """Draw a request whose body is not the JSON that it should be."""
    path = draw(st.sampled_from((CHAT, COMPLETIONS)))
    good = json.dumps(base(path)).encode()
    cut = st.integers(0, len(good) - 1).map(lambda end: good[:end])
    return Case(path, None, draw(st.one_of(cut, st.sampled_from(spoilt(good)))), odd=1)


PATHS = (
    *(CHAT, COMPLETIONS, "/v1/models", "/tokenize", "/detokenize", "/health", "/ping", "/version", "/load"),
    *("/v1/nothing", "/nothing", "/", "/v1", "/v1/", CHAT + "/", "/v1//completions", "/v1/models/x", "/V1/models"),
)
KINDS = (
    *(
        JSON,
        JSON,
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/json;",
        "application/problem+json",
    ),
    *("text/plain", "text/json", "application/x-www-form-urlencoded", "application/jsonx", "*/*", "json", ""),
)
METHODS = ("GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW")


@st.composite
def broken_requests(draw: st.DrawFn) -> Case:
    """Draw a request with an unusual method, path, content type, request id or key."""
    path, method, kind = draw(st.sampled_from(PATHS)), draw(st.sampled_from(METHODS)), draw(st.sampled_from(KINDS))
    headers = {"content-type": kind} if kind else {}
    if draw(st.booleans()):
        headers["x-request-id"] = draw(st.sampled_from(("a-7", "x" * 200, "a b", "{}")))
    if draw(st.integers(0, 4)) == 0:
        headers["authorization"] = draw(st.sampled_from(("Bearer wrong", "Bearer", "Basic x", "bearer", "wrong")))
    fields = base(path if path in (CHAT, COMPLETIONS) else COMPLETIONS)
    return Case(path, fields if method in ("POST", "PUT", "PATCH") else None, b"", method, headers, odd=1)


@st.composite
def token_bodies(draw: st.DrawFn) -> Case:
    """Draw a request that counts, numbers or spells tokens."""
    path = draw(st.sampled_from(("/tokenize", "/tokenize", "/detokenize")))
    table = OF_TOKENS if path == "/tokenize" else {"tokens": st.lists(st.sampled_from((5, 6, -1, "a")), max_size=3)}
    fields: dict[str, Any] = {"prompt": "Hello"} if path == "/tokenize" else {"tokens": [5, 6]}
    names = draw(st.lists(st.sampled_from(sorted(table)), max_size=2, unique=True))
    for name in names:
        fields[name] = draw(st.one_of(table[name], table[name], ANYTHING))
    if "messages" in names:
        fields.pop("prompt", None)  # which of the two is taken is settled
    return Case(path, fields, odd=len(names))


KINDS_OF_CASE = {0: broken_texts, 1: broken_requests, 2: token_bodies}
CASES: SearchStrategy[Case] = st.integers(0, 11).flatmap(lambda kind: KINDS_OF_CASE.get(kind, bodies)())
