"""Fields of a request with values of a kind that they cannot be of, each with each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hxp_harness.security.case import CANARY, Expected

_REFUSED, _TOLERATED = Expected.REFUSED, Expected.TOLERATED

# What the value of a field may be, by kind, and JSON texts that are of another kind whatever a reader makes of them.
# Readers that convert (pydantic's lax mode, as vLLM has it) take "7" for 7 and true for 1: such are not among them.
KINDS: dict[str, tuple[str, ...]] = {
    "number": (
        *("temperature", "top_p", "presence_penalty", "frequency_penalty", "min_p", "repetition_penalty"),
        *("max_tokens", "n", "seed", "top_logprobs", "top_k", "min_tokens"),
    ),
    "boolean": ("stream", "logprobs", "ignore_eos", "include_stop_str_in_output"),
    "object": ("stream_options", "logit_bias", "response_format"),
    "text": ("user", "model"),
    "list": ("tools", "messages"),
}
_TEXTS: tuple[tuple[str, str], ...] = (
    ("an object", f'{{"{CANARY}": 1}}'),
    ("an empty object", "{}"),
    ("a list", f'["{CANARY}"]'),
    ("a list of lists", "[[[]]]"),
    ("a text", f'"{CANARY}"'),
    ("an empty text", '""'),
    ("an expression", f'"1; drop table {CANARY}"'),
    ("a template", f'"{{{{{CANARY}}}}}"'),
    ("a text with a null", f'"{CANARY}\\u0000"'),
    ("a long text", f'"{CANARY * 1000}"'),
    ("a huge number", "1e400"),
    ("a fraction", "0.5"),
    ("many digits", "7" * 400),
    ("half a surrogate pair", '"\\udfff"'),
)
# Those that are of the kind after all, or that some readers may take for one.
_MAYBE: dict[str, frozenset[str]] = {
    "number": frozenset({"a fraction", "many digits"}),
    "boolean": frozenset(),
    "object": frozenset({"an object", "an empty object"}),
    "text": frozenset(name for name, text in _TEXTS if text.startswith('"')),
    "list": frozenset({"a list", "a list of lists"}),
}


def wrong_kinds() -> Iterator[tuple[str, Expected, str, str]]:
    """Yield every field with every text; what is of the wrong kind must be refused."""
    for kind, fields in KINDS.items():
        for field, (name, text) in itertools.product(fields, _TEXTS):
            expected = _TOLERATED if name in _MAYBE[kind] else _REFUSED
            yield f"{field} as {name}", expected, field, text
