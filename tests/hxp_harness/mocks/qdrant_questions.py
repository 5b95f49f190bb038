"""What a client asks of Qdrant, as functions of the official client, and bodies that make no sense to it."""

from __future__ import annotations

from collections.abc import Callable

from qdrant_client import QdrantClient, models

POINTS = [
    models.PointStruct(id=1, vector=[1.0, 0.0], payload={"lang": "en", "open": True}),
    models.PointStruct(id=2, vector=[0.8, 0.6], payload={"lang": "de"}),
    models.PointStruct(id=3, vector=[0.0, 2.0], payload={"lang": "en", "open": 1}),
]
ENGLISH = models.Filter(must=[models.FieldCondition(key="lang", match=models.MatchValue(value="en"))])


def filled(client: QdrantClient, distance: models.Distance = models.Distance.COSINE) -> QdrantClient:
    client.create_collection("docs", vectors_config=models.VectorParams(size=2, distance=distance))
    client.upsert("docs", POINTS, wait=True)
    return client


def _open(value: bool | int) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key="open", match=models.MatchValue(value=value))])


def _named_until_deleted(client: QdrantClient) -> list[str]:
    """The names listed before "docs" is deleted and not after; a shared server may hold collections of others."""
    before = {each.name for each in client.get_collections().collections}
    client.delete_collection("docs")
    return sorted(before - {each.name for each in client.get_collections().collections})


Question = Callable[[QdrantClient], object]
QUESTIONS: dict[str, Question] = {
    "exists": lambda client: (client.collection_exists("docs"), client.collection_exists("none")),
    "names": _named_until_deleted,
    "count": lambda client: (client.count("docs").count, client.count("docs", count_filter=ENGLISH).count),
    "size": lambda client: client.get_collection("docs").points_count,
    "scroll": lambda client: [
        ([point.id for point in page], more)
        for page, more in (client.scroll("docs", limit=2), client.scroll("docs", limit=2, offset=3))
    ],
    "true is not one": lambda client: [
        [point.id for point in client.scroll("docs", scroll_filter=_open(value))[0]] for value in (True, 1)
    ],
    "scroll english": lambda client: [p.payload for p in client.scroll("docs", scroll_filter=ENGLISH)[0]],
    "query": lambda client: [
        (point.id, round(point.score, 5), point.payload) for point in client.query_points("docs", [1.0, 0.1]).points
    ],
    "query english": lambda client: [
        point.id for point in client.query_points("docs", [1.0, 0.1], query_filter=ENGLISH, limit=1).points
    ],
    "delete points": lambda client: (client.delete("docs", [1, 2]).status, client.count("docs").count),
    "delete collection": lambda client: (client.delete_collection("docs"), client.collection_exists("docs")),
}
NO_SENSE: list[tuple[str, dict[str, object]]] = [
    ("/collections/docs/points/search", {"vector": "x"}),
    ("/collections/docs/points/search", {"vector": ["x", 1]}),
    ("/collections/docs/points/search", {"vector": [1, 0], "limit": "x"}),
    ("/collections/docs/points/search", {"vector": [1, 0], "filter": 7}),
    ("/collections/docs/points/delete", {"points": [None]}),
    ("/collections/docs/points/delete", {}),
]
