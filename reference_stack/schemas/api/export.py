"""The shapes of the stack's APIs as JSON Schema, with a version: `python -m reference_stack.schemas.api.export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from reference_stack.schemas.api import key_admin, openai, openai_replies, retrieval, runs
from reference_stack.schemas.api.usage import UsageRow

VERSION = 1
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
Direction = Literal["requests", "replies"]
_SHAPES: Mapping[Direction, Mapping[str, type[Any]]] = {
    "requests": {
        "chat": openai.ChatRequest,
        "completion": openai.CompletionRequest,
        "tokenize_chat": openai.TokenizeChatRequest,
        "tokenize_prompt": openai.TokenizePromptRequest,
        "key_change": key_admin.ChangedKey,
        "key_new": key_admin.NewKey,
        "key_rotation": key_admin.Rotation,
        "run": runs.JudgedRun,
        "search": retrieval.SearchRequest,
    },
    "replies": {
        "chat": openai_replies.ChatCompletion,
        "chat_chunk": openai_replies.ChatCompletionChunk,
        "completion": openai_replies.Completion,
        "error": openai_replies.ErrorReply,
        "key": key_admin.ShownKey,
        "key_found": key_admin.FoundKey,
        "key_made": key_admin.MadeKey,
        "key_page": key_admin.KeyPage,
        "models": openai_replies.ModelList,
        "run": runs.JudgedRun,
        "search": retrieval.SearchPage,
        "usage_row": UsageRow,
    },
}


def api_schemas() -> dict[Direction, dict[str, dict[str, Any]]]:
    """Return the JSON Schema of every shape, of what is asked and of what is answered, each with its own $id."""
    return {
        direction: {name: _schema(direction, name, shape) for name, shape in shapes.items()}
        for direction, shapes in _SHAPES.items()
    }


def _schema(direction: Direction, name: str, shape: type[Any]) -> dict[str, Any]:
    mode: Literal["validation", "serialization"] = "validation"
    if issubclass(shape, BaseModel):
        schema = shape.model_json_schema(mode=mode, by_alias=True)
    else:
        schema = TypeAdapter(shape).json_schema(mode=mode)
    return {"$schema": _DIALECT, "$id": f"urn:hxp:api:{VERSION}:{direction}:{name}", **schema}


if __name__ == "__main__":
    json.dump(api_schemas(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
