"""An answer that the cache had kept, as its client gets it."""

from __future__ import annotations

from reference_stack.services.infrastructure.api_gateway.asked import EMBEDDINGS, Asked
from reference_stack.services.infrastructure.api_gateway.call import Call
from reference_stack.services.infrastructure.api_gateway.events import read_answer
from reference_stack.services.infrastructure.api_gateway.passage import Passage
from reference_stack.services.infrastructure.api_gateway.stream import EVENT_STREAM, WHOLE
from reference_stack.services.infrastructure.api_gateway.wire.exchange import Headers


def count_kept(call: Call, asked: Asked, answer: bytes) -> Headers:
    """Give `call` the figures of `answer`, and return its headers; a stream's usage holds that the cache told."""
    if not asked.stream:
        call.usage = read_answer(answer, vectors=call.route == EMBEDDINGS)
        return WHOLE
    passage = Passage(strip_usage=False, most_held_bytes=len(answer))
    passage.feed(answer)
    call.usage = call.usage or passage.tally.usage
    call.texts = passage.tally.texts
    return EVENT_STREAM
