"""The command `hxp-stack documents`: what the gateway's clients may search, put into the store that it searches."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reference_stack.errors import SettingsError, nearest
from reference_stack.orchestration.gateway_settings import gateway_settings
from reference_stack.schemas.api.retrieval import MOST_ATTRIBUTES, Name, Value
from reference_stack.schemas.configuration.retrieval import RetrievalSettings
from reference_stack.services.infrastructure.api_gateway.retrieval.shelf import Document, Shelf
from reference_stack.services.infrastructure.api_gateway.retrieval.vectors import vectors_at

_PATIENCE_S = 30.0  # for one step of bringing documents in, however quick a search must be
_EXAMPLE = "api_gateway: {retrieval: {stores: [handbook]}}"
_ATTRIBUTES: TypeAdapter[dict[Name, Value]] = TypeAdapter(dict[Name, Value])


@dataclass(frozen=True, slots=True)
class Asked:
    """What follows `hxp-stack documents`. `names` are files to add, or ids to remove."""

    action: str
    store: str
    names: tuple[str, ...]
    tenant: str
    attributes: tuple[str, ...]
    settings: Path | None
    folder: Path
    json: bool


def run(asked: Asked) -> int:
    """Do what is asked; return 0. Raises SettingsError, and Unavailable (exit 5) when the store cannot be asked."""
    actions: Mapping[str, Callable[[Asked, Shelf], Awaitable[None]]] = {"add": _add, "list": _list, "remove": _remove}
    if asked.action != "list" and not asked.names:
        what = "files" if asked.action == "add" else "ids of documents"
        example = f"hxp-stack documents {asked.action} {asked.store} --tenant {asked.tenant} NAME"
        raise SettingsError(f"{asked.action} needs {what}", hint=example)
    settings = _settings(asked)

    async def work() -> None:
        vectors = vectors_at(settings.model_copy(update={"timeout_s": _PATIENCE_S}))
        try:
            await actions[asked.action](asked, Shelf(vectors, asked.store, asked.tenant))
        finally:
            await vectors.close()

    asyncio.run(work())
    return 0


def _settings(asked: Asked) -> RetrievalSettings:
    file, settings = gateway_settings(asked.settings, asked.folder)
    if settings.retrieval is None:
        raise SettingsError(f"{file}: this gateway searches no documents", hint=f"in --host-file FILE: {_EXAMPLE}")
    if settings.retrieval.backend == "mock":
        raise SettingsError(f"{file}: a mocked store is in the gateway's own memory", hint="start it without --mock")
    if asked.store not in settings.stores:
        raise SettingsError(f"{file}: there is no store {asked.store!r}", hint=nearest(asked.store, settings.stores))
    return settings.retrieval


async def _add(asked: Asked, shelf: Shelf) -> None:
    attributes = _attributes(asked.attributes)
    documents = _read(asked.names, attributes)
    for number, document in enumerate(documents, 1):
        count = await shelf.put(document)
        _tell(asked, {"id": document.id, "passages": count}, f"{document.id}: {count} passages")
        if sys.stderr.isatty() and number < len(documents):
            print(f"{number} of {len(documents)}", end="\r", file=sys.stderr, flush=True)


async def _list(asked: Asked, shelf: Shelf) -> None:
    async for kept in shelf.documents():
        attributes = " ".join(f"{key}={value}" for key, value in sorted(kept.attributes.items()))
        state = "" if kept.whole else "  INCOMPLETE: add it again"
        _tell(asked, asdict(kept), f"{kept.id}  {kept.passages} passages  {attributes}".rstrip() + state)


async def _remove(asked: Asked, shelf: Shelf) -> None:
    for name in asked.names:
        if not await shelf.remove(name):
            hint = f"hxp-stack documents list {asked.store} --tenant {asked.tenant}"
            raise SettingsError(f"no document {name!r} of tenant {asked.tenant!r} is in {asked.store!r}", hint=hint)
        _tell(asked, {"id": name, "removed": True}, f"{name}: removed")


def _tell(asked: Asked, row: Mapping[str, object], text: str) -> None:
    print(json.dumps(row) if asked.json else text)


def _read(names: tuple[str, ...], attributes: Mapping[str, Value]) -> list[Document]:
    """Read all files before the first is brought in, so that a wrong one changes nothing."""
    found: dict[str, Document] = {}
    for name in names:
        file = Path(name)
        if file.name in found:
            hint = "a document is called as its file; give one of them another name"
            raise SettingsError(f"two files are called {file.name!r}", hint=hint)
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{file} is no text in UTF-8", hint="documents are plain text or Markdown") from None
        if not text.split():
            raise SettingsError(f"{file} is empty", hint="hxp-stack documents remove takes a document away")
        found[file.name] = Document(file.name, file.name, text, attributes)
    return list(found.values())


def _attributes(said: tuple[str, ...]) -> Mapping[str, Value]:
    found: dict[str, object] = {}
    for text in said:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"--attribute {text!r} is not KEY=VALUE", hint="for example --attribute lang=en")
        found[key] = {"true": True, "false": False}.get(
            value, int(value) if value.isascii() and value.isdigit() else value
        )
    try:
        checked = _ATTRIBUTES.validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"--attribute {first['loc'][0]}: {first['msg']}", hint="A-Z, a-z, 0-9, _ and -") from None
    if len(checked) > MOST_ATTRIBUTES:
        raise SettingsError(f"a document has at most {MOST_ATTRIBUTES} attributes", hint="leave some out")
    return checked
