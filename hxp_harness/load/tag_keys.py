"""Keys of single tenants: requests of a tag carry the key that a variable or a file holds. Only its name is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from hxp_harness.errors import UsageError, nearest

_EXAMPLE = "--tag-key gold=GOLD_KEY, or gold=@FILE"


def parse(pairs: Iterable[str]) -> dict[str, str]:
    """Return the reference of each tag: a variable's name, or @ and a file; raise UsageError for what is neither."""
    found: dict[str, str] = {}
    for pair in pairs:
        tag, equals, reference = pair.partition("=")
        if not (tag and equals and reference.removeprefix("@")):
            raise UsageError(f"--tag-key {pair}: wants TAG=VARIABLE or TAG=@FILE", hint=_EXAMPLE)
        if tag in found:
            raise UsageError(f"--tag-key {pair}: the tag {tag} has a key already", hint="name each tag once")
        found[tag] = reference
    return found


def read(references: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the key of each tag; raise UsageError, which never shows a key, where one cannot be had or sent."""
    return {tag: _key(tag, reference, environ) for tag, reference in references.items()}


def refuse_unknown(references: Mapping[str, str], tags: Iterable[str]) -> None:
    """Raise UsageError for a tag that no request has."""
    known = sorted({tag for tag in tags if tag})
    for tag in references:
        if tag not in known:
            hint = nearest(tag, known) if known else "its requests have no tags"
            raise UsageError(f"--tag-key: no request of the contract has the tag {tag}", hint=hint)


def _key(tag: str, reference: str, environ: Mapping[str, str]) -> str:
    if reference.startswith("@"):
        try:
            key = Path(reference[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--tag-key {tag}: cannot read {reference[1:]}: {error}") from None
    elif reference in environ:
        key = environ[reference]
    else:
        hint = f"export {reference}=... here, and on every host that sends load"
        raise UsageError(f"--tag-key {tag}: the environment has no {reference}", hint=hint)
    if not key or any(ord(character) <= 32 or ord(character) > 126 for character in key):
        raise UsageError(f"--tag-key {tag}: what {reference} holds is empty or no header can carry it")
    return key
