"""The bytes of a request: the OpenAI call that one line of the schedule asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from hxp_harness.load.plan import Due, LoadPlan
from hxp_harness.load.prompts import text_of

PATHS = {"chat": "/chat/completions", "completions": "/completions"}


Message = Mapping[str, str]


def body_of(plan: LoadPlan, text: str, output_tokens: int, before: Sequence[Message] = ()) -> dict[str, object]:
    """Return the JSON body that asks for `output_tokens` tokens in answer to `text`, said after `before`."""
    body: dict[str, object] = {
        "model": plan.api_model,
        "max_tokens": output_tokens,
        "temperature": plan.temperature,
        "stream": plan.stream,
    }
    if plan.api == "chat":
        body["messages"] = [*before, {"role": "user", "content": text}]
    else:
        body["prompt"] = text
    if plan.stream:
        options = {"include_usage": True}
        if plan.continuous_usage:
            options["continuous_usage_stats"] = True
        body["stream_options"] = options
    if plan.ignore_eos:
        body["ignore_eos"] = True
    return body


def headers_of(plan: LoadPlan, api_key: str) -> dict[str, str]:
    """Return the headers that every request of a plan has."""
    headers = {
        "Host": urlsplit(plan.base_url).netloc.rpartition("@")[2],
        "User-Agent": "hxp",
        "Accept": "text/event-stream" if plan.stream else "application/json",
        "Content-Type": "application/json",
    }
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


class Renderer:
    """Makes the bytes of each request of a plan."""

    def __init__(self, plan: LoadPlan, api_key: str, run_id: str, tag_keys: Mapping[str, str] | None = None) -> None:
        """Take the key of the target, and those that requests of single tags carry instead."""
        self._plan = plan
        self._run_id = run_id
        path = urlsplit(plan.base_url).path + PATHS[plan.api]
        first = f"POST {path} HTTP/1.1\r\n"
        keys = {"": api_key} | dict(tag_keys or {})
        self._heads = {tag: f"{first}{_lines(headers_of(plan, key))}".encode() for tag, key in keys.items()}

    def request_id(self, due: Due) -> str:
        """Return the X-Request-Id of a request: unique over runs."""
        return f"hxp-{self._run_id}-{due.index}"

    def request(self, due: Due, before: Sequence[Message] = ()) -> bytes:
        """Return the bytes of `due`, said after the messages `before`."""
        *told, last = due.messages or ({"content": text_of(due, self._plan)},)
        body = msgspec.json.encode(body_of(self._plan, last["content"], due.output_tokens, [*before, *told]))
        own = _lines({"X-Request-Id": self.request_id(due), "Content-Length": str(len(body))})
        head = self._heads.get(due.tag) or self._heads[""]
        return b"%b%b\r\n%b" % (head, own.encode(), body)


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
