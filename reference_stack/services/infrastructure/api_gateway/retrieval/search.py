"""The route that searches a store: by the key's story as every other route, for the key's tenant alone."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import ValidationError

from reference_stack.schemas.api.keys import ApiKey
from reference_stack.schemas.api.retrieval import SearchPage, SearchRequest, SearchResult, TextPart, Value
from reference_stack.schemas.configuration.retrieval import RetrievalSettings
from reference_stack.services.infrastructure.api_gateway.asked import Asked
from reference_stack.services.infrastructure.api_gateway.body import parse_object, read_body
from reference_stack.services.infrastructure.api_gateway.call import Call, call_of
from reference_stack.services.infrastructure.api_gateway.events import Usage
from reference_stack.services.infrastructure.api_gateway.head import Head
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal, bad_request, overloaded, shown
from reference_stack.services.infrastructure.api_gateway.retrieval.shelf import Passage, Shelf
from reference_stack.services.infrastructure.api_gateway.retrieval.vectors import Vectors
from reference_stack.services.infrastructure.api_gateway.story import Story
from reference_stack.services.integration.vector_database.port import VectorDatabase

SEARCH = "/v1/vector_stores/{store}/search"
_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


def path_of(store: str) -> str:
    return SEARCH.format(store=store)


class Searches:
    """Serves the route."""

    def __init__(self, settings: RetrievalSettings, story: Story, vectors: VectorDatabase) -> None:
        self._stores = settings.stores
        self._story = story
        self._vectors = vectors
        self._guard = Vectors(settings)

    async def answer(self, request: Request, store: str) -> Response:
        """Answer one authenticated request. Raises Refusal."""
        story, call = self._story, call_of(request.scope)
        story.enter()
        try:
            story.check_kind(Head(request.scope["headers"]))
            body = await read_body(request.scope["headers"], request.receive, story.limits)
            wanted = _read(parse_object(body, story.limits))
            page = await self._search(call, store, wanted)
            return Response(page.model_dump_json(), media_type="application/json")
        finally:
            story.leave()

    async def _search(self, call: Call, store: str, wanted: SearchRequest) -> SearchPage:
        tenant = self._tenant_of(call.key, store)
        call.model = store
        if self._story.journal.full:
            raise overloaded("usage cannot be written down at the moment")
        question = "\n".join(wanted.queries)
        where: dict[str, Value] = {}
        nobody = any(where.setdefault(each.key, each.value) != each.value for each in wanted.conditions())
        errand = await self._story.accept(call, Asked(store, False, False, question.encode(), {"input": question}))
        try:
            shelf = Shelf(self._vectors, store, tenant)
            found = (
                [] if nobody else await self._guard.ask(lambda: shelf.search(question, wanted.max_num_results, where))
            )
            call.usage = Usage(0, 0)  # no model was asked
            self._story.complete(call)
        finally:
            errand.finish()
        return SearchPage(search_query=wanted.queries, data=tuple(map(_result, found)))

    def _tenant_of(self, key: ApiKey | None, store: str) -> str:
        assert key is not None  # noqa: S101 - it was admitted
        if store not in self._stores or not key.may_use(store):
            # One answer for both, so that a key cannot find out what others may use.
            message = "the vector store does not exist, or this key may not use it"
            raise Refusal(404, "vector_store_not_found", message, param="vector_store_id")
        if not key.tenant:
            raise Refusal(403, "tenant_required", "documents belong to tenants, and this key has none")
        return key.tenant


def _read(body: object) -> SearchRequest:
    try:
        return SearchRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = shown(str(first["loc"][0])) if first["loc"] else None
        code = _CODES.get(first["type"], "invalid_value") if len(first["loc"]) == 1 else "invalid_value"
        raise bad_request(code, _MESSAGES[code].format(name=name), name) from None


_MESSAGES = {
    "missing_required_parameter": "{name} is missing",
    "unknown_parameter": "{name} is not known here",
    "invalid_value": "{name} has a value that is not taken here",
}


def _result(passage: Passage) -> SearchResult:
    return SearchResult(
        file_id=passage.document,
        filename=passage.name,
        score=passage.score,
        attributes=dict(passage.attributes),
        content=(TextPart(text=passage.text),),
    )


def described() -> dict[str, Any]:
    """Return what OpenAPI says of the body, with what it refers to written out: the document has no place for it."""
    schema = SearchRequest.model_json_schema()
    parts = schema.pop("$defs")
    body = {"required": True, "content": {"application/json": {"schema": _written_out(schema, parts)}}}
    return {"requestBody": body}


def _written_out(node: Any, parts: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return _written_out(parts[node["$ref"].rpartition("/")[2]], parts)
        return {key: _written_out(value, parts) for key, value in node.items() if key != "discriminator"}
    return [_written_out(each, parts) for each in node] if isinstance(node, list) else node
