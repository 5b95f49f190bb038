"""The next request of a conversation: all that was said before, the answer, and a new question. Pure."""

from __future__ import annotations

import msgspec

from hxp_harness.load.answer import NO_JSON
from hxp_harness.load.exchange import Exchange
from hxp_harness.load.plan import Due
from hxp_harness.load.request import Renderer
from hxp_harness.load.sse import split_events

_decoder = msgspec.json.Decoder()
_NOTHING = "(no answer)"  # chat templates refuse two questions in a row, and some an empty answer


def answer_text(body: bytes, *, stream: bool) -> str:
    """Return the content of the first choice of an answer as far as it came; what cannot be read is left out."""
    messages = [event.data for event in split_events(body)] if stream else [body]
    return "".join(_content(message) for message in messages)


def follow(renderer: Renderer, due: Due, previous: Exchange) -> bytes:
    """Return the bytes of `due`, which follows the exchange `previous`."""
    before = _decoder.decode(previous.request.partition(b"\r\n\r\n")[2])["messages"]
    text = answer_text(previous.body, stream=previous.stream) or _NOTHING
    return renderer.request(due, [*before, {"role": "assistant", "content": text}])


def _content(message: bytes) -> str:
    try:
        choice = _decoder.decode(message)["choices"][0]
        text = (choice.get("delta") or choice.get("message") or {}).get("content")
    except (*NO_JSON, KeyError, IndexError, TypeError, AttributeError):
        return ""
    return text if isinstance(text, str) else ""
