"""One request on its way through the gateway: what is known of it so far, and what is written down in the end."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from starlette.types import Scope

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.api.usage import Outcome, UsageRow
from reference_stack.services.infrastructure.api_gateway.events import Usage

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_SLOT = "hxp.call"
# Unique is all that an id must be, in forked workers too.
_IDS = random.Random()  # noqa: S311 - nobody gains anything by guessing one
os.register_at_fork(after_in_child=_IDS.seed)
OK = 200


@dataclass(slots=True)
class Call:
    """`id` is unique and ours; `client_id` is the client's X-Request-Id if it was sane, else "".

    `lines` are headers, each with its line's end, that go with the answer beside those of its kind; `cached` says that
    it is one that was kept. `give_up` says that the server with the request is stuck: another is asked, or the client
    told. `written` says that the request's end is in the journal. `session` is what the client says binds this request
    to others, where the settings name a header for it. `carried` are further header lines for the model's server, each
    after a line's end; `on_settled` is called when all is known of the request.
    """

    id: str
    client_id: str
    route: str
    began_s: float = field(default_factory=time.perf_counter)
    accepted_at_s: float = field(default_factory=time.time)
    key: ApiKey | None = None
    session: str = ""
    model: str = ""
    stream: bool = False
    status: int = 0
    error: str = ""
    first_byte_s: float | None = None
    outcome: Outcome | None = None
    usage: Usage | None = None
    texts: int = 0
    cached: bool = False
    written: bool = False
    lines: bytes = b""
    give_up: Callable[[], object] = lambda: None
    carried: str = ""
    on_settled: Callable[[], object] | None = None

    @property
    def shown_id(self) -> str:
        """The id that the client sees."""
        return self.client_id or self.id

    @property
    def started(self) -> bool:
        """Whether the client has been told a status."""
        return self.status != 0

    @property
    def output_tokens(self) -> int:
        """The model's own figure if it gave one, else the events with text that were relayed."""
        return self.texts if self.usage is None else self.usage.completion_tokens

    def row(self) -> UsageRow | None:
        """Return the usage row, or None when the request was never accepted."""
        if self.outcome is None or self.key is None:
            return None
        return UsageRow(
            request_id=self.id,
            client_request_id=self.client_id,
            key_id=self.key.id,
            tenant=self.key.tenant,
            model=self.model,
            route=self.route,
            outcome=self.outcome,
            status=self.status or OK,  # of a complete answer, it is written before it is sent
            stream=self.stream,
            prompt_tokens=None if self.usage is None else self.usage.prompt_tokens,
            output_tokens=self.output_tokens,
            exact=self.usage is not None,
            accepted_at_s=self.accepted_at_s,
            took_s=time.perf_counter() - self.began_s,
            cached=self.cached,
        )


def new_call(route: str, header: bytes | None) -> Call:
    """Return the call of a request that begins; `header` is its X-Request-Id."""
    sane = header is not None and _SANE_ID.fullmatch(header)
    return Call(_IDS.getrandbits(128).to_bytes(16).hex(), header.decode() if header and sane else "", route)


def begin(scope: Scope, route: str, header: bytes | None) -> Call:
    """Make the call of this request and leave it in its scope; `header` is its X-Request-Id."""
    call = scope[_SLOT] = new_call(route, header)
    return call


def call_of(scope: Scope) -> Call:
    """Return the call that `begin` left in the scope."""
    return cast("Call", scope[_SLOT])
