"""Replies that a script gives word by word. Who sends them, when, and how far, is told in `play`."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from reference_stack.errors import nearest
from reference_stack.schemas.api.openai import GenerationRequest
from reference_stack.schemas.configuration.script import Fault, Script, ScriptedCall
from reference_stack.services.ai_models.api_error import ApiError
from reference_stack.services.ai_models.model_spec import ModelSpec
from reference_stack.services.ai_models.reply import Reply, say
from reference_stack.services.ai_models.tools import Call, make_call

FIELD = "hxp_script"
_KEYS = {
    "": list(Script.model_fields),
    "fault": list(Fault.model_fields),
    "tool_calls": list(ScriptedCall.model_fields),
}


@dataclass(frozen=True, slots=True)
class Server:
    """What a server was started with, as far as it decides about requests."""

    spec: ModelSpec
    max_model_len: int
    seed: int  # chooses among replies where the request has none
    parses_tools: bool
    allow_scripts: bool = False
    script: Script | None = None  # of requests that have none of their own


def script_of(body: GenerationRequest, server: Server) -> Script | None:
    """Return the script of a request, else the server's; raise ApiError where it is wrong or not allowed."""
    if body.hxp_script is None:
        return server.script
    if not server.allow_scripts:
        raise ApiError(f"{FIELD} is switched off here; start the engine with allow_scripts: true", param=FIELD)
    try:
        return Script.model_validate(body.hxp_script)
    except ValidationError as error:
        raise ApiError("\n".join(_told(error)), param=FIELD) from None


def scripted_reply(script: Script | None, limit: int) -> Reply | None:
    """Return the reply of `script`, cut at `limit` tokens; None where it gives none."""
    if script is None or script.reply is None:
        return None
    if isinstance(script.reply, str):
        return say(script.reply, limit)
    words = script.reply
    return Reply((*words, ""), "stop") if len(words) < limit else Reply(tuple(words[:limit]), "length")


def scripted_calls(script: Script | None) -> tuple[Call, ...]:
    calls = script.tool_calls if script is not None else []
    return tuple(make_call(call.name, call.arguments) for call in calls)


def aborted(reply: Reply, script: Script | None) -> Reply:
    """Return `reply` as far as an abort lets it come: the tokens before, and an end without text."""
    fault = script.fault if script is not None else None
    if fault is None or fault.kind != "abort" or fault.at_token >= len(reply.tokens):
        return reply
    return Reply((*reply.tokens[: fault.at_token], ""), "abort")


def _told(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        where = ".".join((FIELD, *map(str, item["loc"])))
        if item["type"] == "extra_forbidden":
            section = str(item["loc"][0]) if len(item["loc"]) > 1 else ""
            lines.append(f"{where}: unknown key; {nearest(str(item['loc'][-1]), _KEYS[section])}")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
    return lines
