"""What a bad upstream does to a request: a table of named behaviours, each a sequence of acts. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for, and how slow slow behaviours are."""

    model: str
    stream: bool
    tokens: int
    proof: str  # the first token of every answer
    number: int  # of the request, from 0
    tick_s: float  # one pause of a slow behaviour


class Act(NamedTuple):
    """One write and what follows it. `tokens` counts the tokens that are whole with this write."""

    payload: bytes = b""
    tokens: int = 0
    pause_s: float = 0.0  # after the write
    then: str = ""  # close | reset | hang (until the client leaves); empty goes on


Behaviour = Callable[[Ask], Iterator[Act]]


def head(status: int = 200, *, content: str = "text/event-stream", more: str = "transfer-encoding: chunked") -> bytes:
    """Return a status line and headers; `more` are header lines of the behaviour's own."""
    return f"HTTP/1.1 {status} As-Scripted\r\ncontent-type: {content}\r\n{more}\r\n\r\n".encode("latin-1")


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def whole(status: int, body: object, *, more: str = "") -> bytes:
    """Return an answer that is not streamed; `body` is JSON, or bytes as they are."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, content="application/json", more=f"content-length: {len(text)}{more}") + text


def error(status: int, message: str = "scripted") -> dict[str, object]:
    return {"error": {"message": message, "type": "InternalServerError", "param": None, "code": status}}


def words(ask: Ask) -> list[str]:
    """Return the tokens of the answer: the proof, then t1, t2, ..."""
    return [f" {ask.proof}", *(f" t{number}" for number in range(1, ask.tokens))]


def delta(ask: Ask, text: str | None, *, finish: str | None = None, model: str = "") -> bytes:
    """Return the JSON of one chunk with `text`, or the role without."""
    said = {"role": "assistant", "content": ""} if text is None else {"content": text}
    choice = {"index": 0, "delta": said, "finish_reason": finish}
    return json.dumps(_object(ask, "chat.completion.chunk", model) | {"choices": [choice]}).encode()


def usage_of(ask: Ask, tokens: int | None = None) -> dict[str, int]:
    count = ask.tokens if tokens is None else tokens
    return {"prompt_tokens": 4, "completion_tokens": count, "total_tokens": 4 + count}


def events(ask: Ask, *, model: str = "", usage_tokens: int | None = None) -> list[tuple[bytes, int]]:
    """Return the JSON of a healthy stream's events up to the usage, each with its number of tokens."""
    spoken = words(ask)
    found = [(delta(ask, None, model=model), 0)]
    for place, text in enumerate(spoken):
        finish = "stop" if place == len(spoken) - 1 else None
        found.append((delta(ask, text, finish=finish, model=model), 1))
    last = _object(ask, "chat.completion.chunk", model) | {"choices": [], "usage": usage_of(ask, usage_tokens)}
    return [*found, (json.dumps(last).encode(), 0)]


def body(ask: Ask, *, model: str = "", usage_tokens: int | None = None) -> dict[str, object]:
    """Return the body of a healthy answer without streaming."""
    message = {"role": "assistant", "content": "".join(words(ask))}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    counted = usage_of(ask, usage_tokens)
    return _object(ask, "chat.completion", model) | {"choices": [choice], "usage": counted}


def healthy(ask: Ask, *, model: str = "", usage_tokens: int | None = None, wait_ticks: int = 0) -> Iterator[Act]:
    """Answer as it should be, with a wrong model or usage if asked, or late."""
    yield Act(pause_s=wait_ticks * ask.tick_s)
    if not ask.stream:
        yield Act(whole(200, body(ask, model=model, usage_tokens=usage_tokens)), ask.tokens)
        return
    yield Act(head())
    for text, tokens in events(ask, model=model, usage_tokens=usage_tokens):
        yield Act(chunk(b"data: " + text + b"\n\n"), tokens)
    yield Act(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def paced(ask: Ask) -> Iterator[Act]:
    """Answer as it should be, but a tick late and a tick after each token."""
    yield Act(pause_s=ask.tick_s)
    for act in healthy(ask):
        yield act._replace(pause_s=ask.tick_s if act.tokens and ask.stream else 0.0)


def broken(ask: Ask, *, then: str, after: int = 2, tail: bytes = b"") -> Iterator[Act]:
    """Send `after` tokens, or half a body without streaming, then `tail`, then stop as `then` says."""
    if not ask.stream:
        answer = whole(200, body(ask))
        yield Act(answer[: len(answer) // 2] if after else b"", then=then)
        return
    if after:
        yield Act(head())
        for text, tokens in events(ask)[: after + 1]:
            yield Act(chunk(b"data: " + text + b"\n\n"), tokens)
    yield Act(tail, then=then)


def raw(*payloads: bytes, then: str = "close") -> Behaviour:
    """Return a behaviour that sends the same bytes to everybody."""

    def play(ask: Ask) -> Iterator[Act]:
        del ask  # the bytes are what they are
        for payload in payloads:
            yield Act(payload)
        yield Act(then=then)

    return play


def status(code: int, *, more: str = "") -> Behaviour:
    """Return a behaviour that refuses with an error in OpenAI's shape."""
    return raw(whole(code, error(code), more=more), then="")


def drip(ask: Ask) -> Iterator[Act]:
    """Send a healthy answer one byte a tick."""
    for act in healthy(ask):
        for place in range(len(act.payload)):
            last = place == len(act.payload) - 1
            yield Act(act.payload[place : place + 1], act.tokens if last else 0, ask.tick_s)


def flapping(ask: Ask) -> Iterator[Act]:
    """Refuse every second request."""
    return healthy(ask) if ask.number % 2 else status(503)(ask)


def told(
    ask: Ask, *, lead: bytes = b"", line: bytes = b"data: %b\n\n", done: bytes = b"data: [DONE]\n\n", pieces: int = 0
) -> Iterator[Act]:
    """Stream with other framing of the events: `lead` first, `line` around each, `done` last, in `pieces` of bytes."""
    if not ask.stream:
        yield from healthy(ask)
        return
    yield Act(head() + (chunk(lead) if lead else b""))
    for text, tokens in [(line % text, tokens) for text, tokens in events(ask)] + [(done, 0)]:
        size = pieces or max(len(text), 1)
        for start in range(0, len(text), size):
            yield Act(chunk(text[start : start + size]), tokens if start + size >= len(text) else 0)
    yield Act(b"0\r\n\r\n")


def multi_line(ask: Ask) -> Iterator[Act]:
    """Stream with each event's JSON over two data lines, which SSE joins by a newline."""
    for act in told(ask):
        payload = act.payload
        if payload.startswith(b"HTTP") or b'"id": ' not in payload:
            yield act
        else:
            inner = payload.split(b"\r\n", 1)[1].removesuffix(b"\r\n").replace(b', "object"', b',\ndata: "object"', 1)
            yield Act(chunk(inner), act.tokens)


def long_line(ask: Ask, *, size: int) -> Iterator[Act]:
    """Answer with one token of `size` bytes before the others."""
    if not ask.stream:
        yield Act(whole(200, body(ask) | {"padding": "x" * size}), ask.tokens)
        return
    yield Act(head() + chunk(b"data: " + delta(ask, "x" * size) + b"\n\n"), 1)
    yield from list(healthy(ask))[2:]


def error_event(ask: Ask) -> Iterator[Act]:
    """Break with an error event and [DONE] behind it, as vLLM does when its engine dies."""
    if not ask.stream:
        return status(500)(ask)
    tail = chunk(b"data: " + json.dumps(error(500)).encode() + b"\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return broken(ask, then="", tail=tail)


def _object(ask: Ask, kind: str, model: str) -> dict[str, object]:
    return {"id": f"chatcmpl-{ask.number}", "object": kind, "created": 1, "model": model or ask.model}


BEHAVIOURS: Mapping[str, Behaviour] = {
    "healthy": healthy,
    "paced": paced,
    "slow_start": partial(healthy, wait_ticks=1),
    "killed_before_first_byte": partial(broken, then="reset", after=0),
    "closed_before_first_byte": partial(broken, then="close", after=0),
    "killed_mid_stream": partial(broken, then="reset"),
    "closed_mid_stream": partial(broken, then="close"),
    "headers_never_come": raw(then="hang"),
    "half_headers": raw(b"HTTP/1.1 200 OK\r\ncontent-ty", then="hang"),
    "body_stalls": partial(broken, then="hang"),
    "one_byte_a_tick": drip,
    "not_http": raw(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "no_status": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "bad_chunk_size": partial(broken, then="close", tail=b"zz\r\nhello\r\n0\r\n\r\n"),
    "negative_chunk_size": partial(broken, then="close", tail=b"-5\r\nhello\r\n0\r\n\r\n"),
    "huge_chunk_size": partial(broken, then="close", tail=b"fffffffffffffffff\r\nhello\r\n"),
    "short_body": raw(head(more="content-length: 1000") + b"data: {}\n\n"),
    "long_body": raw(head(content="application/json", more="content-length: 2") + b"{}" + b"x" * 100),
    "empty_200": raw(whole(200, b""), then=""),
    "not_json_200": raw(whole(200, b"<html>it works</html>"), then=""),
    "error_body_200": raw(whole(200, error(500)), then=""),
    "error_event": error_event,
    "status_400": status(400),
    "status_401": status(401),
    "status_404": status(404),
    "status_500": status(500),
    "status_502": status(502),
    "status_503": status(503, more="\r\nretry-after: 1"),
    "status_429": status(429, more="\r\nretry-after: 1"),
    "retry_after_nonsense": status(429, more="\r\nretry-after: soon"),
    "redirect": raw(head(307, more="location: http://127.0.0.1:1/\r\ncontent-length: 0"), then=""),
    "flapping": flapping,
    "wrong_model": partial(healthy, model="another-model"),
    "wrong_usage": partial(healthy, usage_tokens=999_999),
    "negative_usage": partial(healthy, usage_tokens=-1),
    "split_every_byte": partial(told, pieces=1),
    "crlf_lines": partial(told, line=b"data: %b\r\n\r\n", done=b"data: [DONE]\r\n\r\n"),
    "cr_lines": partial(told, line=b"data: %b\r\r", done=b"data: [DONE]\r\r"),
    "comments": partial(told, lead=b": ping\n\n", line=b": comment\ndata: %b\n\n"),
    "no_space": partial(told, line=b"data:%b\n\n"),
    "other_fields": partial(told, line=b"event: message\nid: 7\nretry: 10\ndata: %b\n\n"),
    "byte_order_mark": partial(told, lead=b"\xef\xbb\xbf"),
    "multi_line_data": multi_line,
    "no_done": partial(told, done=b""),
    "double_done": partial(told, done=b"data: [DONE]\n\ndata: [DONE]\n\n"),
    "data_after_done": partial(told, done=b'data: [DONE]\n\ndata: {"choices": []}\n\n'),
    "not_json_event": partial(told, lead=b"data: {oops\n\n"),
    "line_of_1_mib": partial(long_line, size=MIB),
    "line_of_16_mib": partial(long_line, size=16 * MIB),
}
