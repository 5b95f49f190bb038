"""What a test may tell the simulated engine to do: an exact reply, delays, a fault at a token."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from reference_stack.schemas.configuration.base import Settings

FaultKind = Literal["error", "abort", "cut", "reset", "stall"]


class Fault(Settings):
    """What goes wrong once `at_token` tokens are out, at the latest when the reply is.

    `error`: an error event, then [DONE], as vLLM does when its engine dies; 500 without streaming.
    `abort`: the engine ends the reply, finish_reason `abort`. `cut`: the connection is closed in the middle.
    `reset`: the same with a TCP reset. `stall`: nothing more comes, and the connection stays open.
    """

    kind: FaultKind
    at_token: int = Field(default=0, ge=0)


class ScriptedCall(Settings):
    """One call of a tool; its arguments are given as they shall be, fitting a schema or not."""

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    arguments: dict[str, Any] = Field(default_factory=dict)


class Script(Settings):
    """How one request is answered. What is not given is as without a script.

    `reply`: a text, or the texts of its tokens one by one. Token number k (from 0) is not sent before
    `first_token_s` + k * `token_s` after the request has arrived; what the device takes longer stays.
    """

    reply: str | list[str] | None = None
    tool_calls: list[ScriptedCall] = Field(default_factory=list)
    first_token_s: float = Field(default=0.0, ge=0, le=3600)
    token_s: float = Field(default=0.0, ge=0, le=3600)
    fault: Fault | None = None

    @model_validator(mode="after")
    def _one_reply(self) -> Script:
        if self.reply is not None and self.tool_calls:
            raise ValueError("give reply or tool_calls, not both")
        return self
