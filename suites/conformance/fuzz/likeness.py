"""What two engines must answer alike: the class of an answer, and how two of them differ."""

from __future__ import annotations

import json
import re
from typing import Any

from suites.conformance.fuzz.grammar import Case
from suites.conformance.wire import Answer

Class = dict[str, Any]
# What the text decides, which is not the same on both engines.
_CHOSEN = {"stop_reason"}
# Fields that depend on how many tokens a piece of text was.
_BY_TOKEN = {
    "top_logprobs",
    "bytes",
    "tokens",
    "token_logprobs",
    "text_offset",
    "prompt_token_ids",
    "token_ids",
    "prompt_logprobs",
}
# Whether a stream's event is its choice's last depends on how many tokens are ready when it is sent.
_BY_PIECE = {
    ".choices[].finish_reason null",
    ".choices[].prompt_token_ids null",
    ".choices[].delta {}",
    ".choices[].finish_reason str",
    ".system_fingerprint str",
}


def class_of(case: Case, answer: Answer) -> Class:
    """Return what is compared of an answer: status, kind of content, and the shape of what is in it."""
    found: Class = {"status": answer.status, "content": answer.headers.get("content-type", "").partition(";")[0]}
    if answer.status != 200:
        return found | _refusal(answer)
    if answer.is_stream:
        return found | _stream(case, answer)
    if not answer.body:
        return found | {"body": "empty"}
    said = answer.json
    if isinstance(said, dict) and "choices" in said:
        return found | _served(case, [said], said["usage"])
    return found | {"fields": sorted(_fields(said))}


def differences(case: Case, left: Class, right: Class) -> list[str]:
    """Return in what two classes differ, one line each: `what: left | right`."""
    if case.odd > 1 and all(400 <= each["status"] < 500 for each in (left, right)):
        return []  # which of several mistakes is told is nobody's promise
    if (left["status"], left.get("events")) != (right["status"], right.get("events")):
        return [f"{case.path} status: {_said(left)} | {_said(right)}"]
    if left["content"] != right["content"]:
        return [f"{case.path} content: {left['content']} | {right['content']}"]
    lines = []
    for key in sorted({*left, *right} - {"message"}):
        one, other = left.get(key), right.get(key)
        if isinstance(one, list) and isinstance(other, list):
            one, other = ([item for item in one if item not in other], [item for item in other if item not in one])
        if one != other:
            said = f" ({right['message']})" if "message" in right else ""
            lines.append(f"{case.path} {key}: {one} | {other}{said}")
    return lines


def _said(found: Class) -> str:
    return " ".join(
        str(found[key]) for key in ("status", "events", "type", "param", "message") if found.get(key) is not None
    )


def _refusal(answer: Answer) -> Class:
    try:
        said = answer.json
    except ValueError:
        return {"body": "empty" if not answer.body else "text"}
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict):
        return {"body": json.dumps(said)}
    return _refused(error)


def _refused(error: dict[str, Any]) -> Class:
    message = re.sub(r"\d+", "#", str(error.get("message")))
    return {
        "body": sorted(error),
        "type": error.get("type"),
        "param": _param(error.get("param")),
        "code": error.get("code"),
        "message": message.partition("\n")[0][:60],
    }


def _param(param: Any) -> str | None:
    """Return a field's place without the numbers in it."""
    return None if param is None else re.sub(r"\b\d+\b", "#", str(param))


def _stream(case: Case, answer: Answer) -> Class:
    events = answer.events
    for event in events:
        if "error" in event:
            return _refused(event["error"]) | {"events": "an error"}
    last = events[-1] if events and not events[-1].get("choices") else None
    found = _served(case, events, (last or {}).get("usage"))
    ends = [choice["index"] for event in events for choice in event.get("choices", ()) if choice.get("finish_reason")]
    return found | {
        "ends once": len(ends) == len(set(ends)),
        "usage event": last is not None,
        "first": sorted(_fields(events[0]) - _BY_PIECE),
    }


def _served(case: Case, parts: list[dict[str, Any]], usage: dict[str, int] | None) -> Class:
    choices = [choice for part in parts for choice in part["choices"]]
    found: Class = {
        "fields": sorted({place for part in parts for place in _fields(part)} - _BY_PIECE),
        "choices": len({choice["index"] for choice in choices}),
        "reasons": sorted({_reason(case, choice["finish_reason"]) for choice in choices if choice["finish_reason"]}),
    }
    if usage is not None:
        found["adds up"] = usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
        if _fixed_length(case):
            found["completion tokens"] = usage["completion_tokens"]
    return found


def _fixed_length(case: Case) -> bool:
    """Whether the request alone decides how long the answer is."""
    asked = case.fields or {}
    chosen = ("stop", "response_format", "structured_outputs", "tools", "logit_bias")
    return asked.get("ignore_eos") is True and not any(asked.get(name) for name in chosen)


def _reason(case: Case, reason: str) -> str:
    natural = reason in ("stop", "length") and not _fixed_length(case)
    return "stop or length" if natural else reason


def _fields(value: Any, place: str = "") -> set[str]:
    """Return the place of each field with the type of its value; items of a list lie in one place."""
    if isinstance(value, dict):
        if not value:
            return {f"{place} {{}}"}
        return {line for key, item in value.items() for line in _field(key, item, place)}
    if isinstance(value, list):
        return {line for item in value for line in _fields(item, f"{place}[]")} or {f"{place} []"}
    kind = (
        "null"
        if value is None
        else "number"
        if isinstance(value, int | float) and not isinstance(value, bool)
        else type(value).__name__
    )
    return {f"{place} {kind}"}


def _field(key: str, item: Any, place: str) -> set[str]:
    where = f"{place}.{key}"
    if key in _CHOSEN:
        return {f"{where} *"}
    if key in _BY_TOKEN and item is not None:
        return {f"{where} some"}
    return _fields(item, where)
