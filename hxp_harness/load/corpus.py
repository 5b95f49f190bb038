"""Prompts from a file: ShareGPT's JSON, or JSON lines with `prompt` or `messages`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hxp_harness.errors import UsageError

_ROLES = {"human": "user", "user": "user"}
_TAG = re.compile(r"[A-Za-z0-9._-]{0,64}")
_EXAMPLE = '{"prompt": "Say hello."}'


@dataclass(frozen=True, slots=True)
class Text:
    """One prompt as chat messages; where the file says, how many tokens of answer it asks for, and its tag."""

    messages: tuple[dict[str, str], ...]
    output_tokens: int | None = None
    tag: str = ""


class _Turn(msgspec.Struct):
    said_by: str = msgspec.field(name="from")
    value: str


class _Shared(msgspec.Struct):
    conversations: list[_Turn] = []


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str = ""
    messages: list[_Message] = []
    output_tokens: int | None = None
    tag: str = ""

    @property
    def fine(self) -> bool:
        asked = self.messages[-1].role == "user" if self.messages else bool(self.prompt)
        fitting = (self.output_tokens is None or self.output_tokens > 0) and _TAG.fullmatch(self.tag) is not None
        return asked and fitting and not (self.messages and self.prompt)


def read_texts(file: Path, *, single: bool) -> list[Text]:
    """Return the prompts of `file` in its order; `single`: the API takes one text, no messages.

    Of ShareGPT the first turn is asked, where a person begins; other conversations are left out. Raises UsageError
    that names the place.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the prompts in {file}: {error.strerror}") from None
    texts = _shared(file, content) if content.lstrip().startswith(b"[") else _lines(file, content)
    if not texts:
        raise UsageError(f"{file} holds no prompts", hint=f"one JSON object a line: {_EXAMPLE}")
    for number, text in enumerate(texts, 1):
        if single and len(text.messages) > 1:
            raise UsageError(f"{file}: prompt {number} has several messages", hint="api: chat takes those")
    return texts


def _shared(file: Path, content: bytes) -> list[Text]:
    try:
        conversations = msgspec.json.decode(content, type=list[_Shared])
    except msgspec.DecodeError as error:
        raise UsageError(f"{file} is no ShareGPT file: {error}") from None
    firsts = [one.conversations[0] for one in conversations if one.conversations]
    return [Text(_asked(turn.value)) for turn in firsts if turn.said_by in _ROLES and turn.value.strip()]


def _lines(file: Path, content: bytes) -> list[Text]:
    texts = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise UsageError(f"{file}, line {number}: {error}", hint=f"for example {_EXAMPLE}") from None
        if not row.fine:
            raise UsageError(
                f"{file}, line {number}: it takes prompt, or messages of which the last is the user's, and perhaps "
                "output_tokens from 1 and a tag of letters, digits and ._-",
                hint=f"for example {_EXAMPLE}",
            )
        messages = tuple({"role": one.role, "content": one.content} for one in row.messages)
        texts.append(Text(messages or _asked(row.prompt), row.output_tokens, row.tag))
    return texts


def _asked(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)
