"""Runs in the vector database: indexed once, found by what they mean and by the words that they share."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reference_stack.history.documents import documents_of, medians_of
from reference_stack.history.record import Record
from reference_stack.services.integration.vector_database import embedding
from reference_stack.services.integration.vector_database.port import Collection, Point, VectorDatabase, Where

RUNS = Collection(
    "hxp_runs",
    embedding.SIZE,
    words=True,
    indexed={"run": "keyword", "kind": "keyword", "service": "keyword", "verdict": "keyword"},
)
_SPACE = uuid.UUID("b2f6c1f4-6d0e-5b61-8f55-3a2a7a0f7a11")
_PAGE = 500
_TEXTS_A_RUN = 8  # so many texts of one run may crowd out those of others


@dataclass(frozen=True, slots=True)
class Found:
    """A run that answers a question, and the text of it that does best. `score` says nothing across questions."""

    run: str
    service: str
    profile: str
    verdict: str
    evidence: str
    started: str
    text: str
    score: float


async def index(
    store: VectorDatabase, records: Sequence[Record], progress: Callable[[int], None] = lambda _: None
) -> int:
    """Bring the runs into the store, those alone that it does not have as they are; return how many those were."""
    await store.ensure(RUNS)
    medians = medians_of(records)
    known = await _known(store)
    brought = 0
    for record in records:
        points = _points(record, [(each.about, each.text) for each in documents_of(record, medians)])
        mark = str(points[0].payload["mark"])
        had_mark, had = known.get(record.id, ("", 0))
        if mark != had_mark:
            # The text for the whole carries the mark, so it comes last: whoever is stopped here begins again.
            await store.upsert(RUNS.name, [*points[1:], points[0]])
            await store.delete(RUNS.name, [_id(record.id, number) for number in range(len(points), had)])
            brought += 1
        progress(1)
    return brought


async def search(store: VectorDatabase, question: str, limit: int, where: Where | None = None) -> list[Found]:
    """Return at most `limit` runs, the best answer first; those alone whose facts are as `where` says."""
    rows = await store.search_both(
        RUNS.name, embedding.dense(question), embedding.sparse(question), limit * _TEXTS_A_RUN, where
    )
    best: dict[str, Found] = {}
    for row in rows:
        facts = {name: str(row.payload.get(name, "")) for name in Found.__slots__ if name != "score"}
        best.setdefault(facts["run"], Found(**facts, score=row.score))
    return list(best.values())[:limit]


async def _known(store: VectorDatabase) -> dict[str, tuple[str, int]]:
    """Return the mark of each run in the store, and of how many texts it is."""
    found: dict[str, tuple[str, int]] = {}
    after = None
    while True:
        points, after = await store.scroll(RUNS.name, _PAGE, after, {"kind": "run"})
        for point in points:
            texts = point.payload.get("texts")
            found[str(point.payload["run"])] = (str(point.payload["mark"]), texts if isinstance(texts, int) else 0)
        if after is None:
            return found


def _points(record: Record, texts: Sequence[tuple[str, str]]) -> list[Point]:
    facts = {
        "run": record.id,
        "service": record.profile.service,
        "profile": record.profile.name,
        "verdict": record.verdict,
        "evidence": record.evidence,
        "started": record.started.isoformat(),
    }
    mark = hashlib.sha256(repr((facts, texts)).encode()).hexdigest()
    return [
        Point(
            _id(record.id, number),
            embedding.dense(text),
            {
                **facts,
                "kind": "part" if about else "run",
                "about": about,
                "text": text,
                "mark": mark,
                "texts": len(texts),
            },
            embedding.sparse(text),
        )
        for number, (about, text) in enumerate(texts)
    ]


def _id(run: str, number: int) -> uuid.UUID:
    return uuid.uuid5(_SPACE, f"{number}:{run}")
