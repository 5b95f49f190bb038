"""A search of a vector store and its answer, as OpenAI's API has them, as far as the stores here can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, field_validator

LONGEST_QUERY = 1024  # characters: it is embedded where requests are relayed
MOST_RESULTS = 50
MOST_ATTRIBUTES = 16
Value = StrictBool | StrictInt | Annotated[StrictStr, Field(max_length=512)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Query = Annotated[str, Field(min_length=1, max_length=LONGEST_QUERY)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Comparison(_Strict):
    """The documents whose attribute `key` is `value`."""

    type: Literal["eq"]
    key: Name
    value: Value


class All(_Strict):
    """The documents that every one of `filters` takes."""

    type: Literal["and"]
    filters: Annotated[tuple[Comparison, ...], Field(min_length=1, max_length=MOST_ATTRIBUTES)]


class SearchRequest(_Strict):
    """What is looked for. Several queries are one question; queries are searched as they were written."""

    query: Query | Annotated[tuple[Query, ...], Field(min_length=1, max_length=8)]
    filters: Annotated[Comparison | All, Field(discriminator="type")] | None = None
    max_num_results: Annotated[int, Field(strict=True, ge=1, le=MOST_RESULTS)] = 10
    rewrite_query: Literal[False] = False

    @field_validator("query")
    @classmethod
    def _short(cls, query: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if sum(map(len, query)) > LONGEST_QUERY:
            raise ValueError(f"the queries are longer than {LONGEST_QUERY} characters together")
        return query

    @property
    def queries(self) -> tuple[str, ...]:
        return (self.query,) if isinstance(self.query, str) else self.query

    def conditions(self) -> Iterator[Comparison]:
        """Yield what must all hold."""
        if isinstance(self.filters, All):
            yield from self.filters.filters
        elif self.filters is not None:
            yield self.filters


class TextPart(_Strict):
    type: Literal["text"] = "text"
    text: str


class SearchResult(_Strict):
    """A passage of a document. Of two scores of one answer the higher is the better; alone they say nothing."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Value]
    content: tuple[TextPart, ...]


class SearchPage(_Strict):
    """All that was found: there is no second page."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: tuple[str, ...]
    data: tuple[SearchResult, ...]
    has_more: Literal[False] = False
    next_page: None = None
