"""The wire of Qdrant's REST API, as far as a store of vectors needs it, for clients made of httpx."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import respx

Fields = Mapping[str, object]
_ENGINE = {
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
    "optimizer_config": {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "flush_interval_sec": 5,
    },
}


@dataclass(slots=True)
class Collection:
    """Vectors of one size; points by id."""

    size: int
    distance: str
    points: dict[int | str, tuple[list[float], dict[str, object]]] = field(default_factory=dict)


class NotFound(Exception):
    """A collection that is not there."""


class Refused(Exception):
    """A request that Qdrant calls wrong; `status` is what it answers then."""

    status = 400


class Taken(Refused):
    """A collection that is there already."""

    status = 409


@dataclass(slots=True)
class Qdrant:
    """A mocked server with its `collections`; `requests` are (method, path) as they came."""

    root: str
    collections: dict[str, Collection] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        path = request.url.path
        self.requests.append((request.method, path))
        if path in {"/healthz", "/readyz", "/livez"}:
            return httpx.Response(200, text=f"{path[1:]} check passed")
        if path == "/":
            return httpx.Response(200, json={"title": "qdrant - vector search engine", "version": "1.20.0"})
        for method, pattern, do in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == request.method:
                return self._do(do, found.groupdict().get("name", ""), request)
        return httpx.Response(404)

    def _do(self, do: Route, name: str, request: httpx.Request) -> httpx.Response:
        try:
            fields = json.loads(request.content) if request.content else {}
            result = do(self, name, fields)
        except NotFound:
            return _error(404, f"Not found: Collection `{name}` doesn't exist!")
        except Refused as error:
            return _error(error.status, f"Wrong input: {error}")
        except (KeyError, TypeError, ValueError) as error:
            return _error(400, f"Wrong input: {error}")
        return httpx.Response(200, json={"result": result, "status": "ok", "time": 0.0})

    def collection(self, name: str) -> Collection:
        """Return a collection; raise NotFound without it."""
        if name not in self.collections:
            raise NotFound(name)
        return self.collections[name]


Route = Callable[[Qdrant, str, Fields], object]


def _list(qdrant: Qdrant, _: str, __: Fields) -> object:
    return {"collections": [{"name": name} for name in qdrant.collections]}


def _exists(qdrant: Qdrant, name: str, _: Fields) -> object:
    return {"exists": name in qdrant.collections}


def _create(qdrant: Qdrant, name: str, fields: Fields) -> object:
    if name in qdrant.collections:
        raise Taken(f"Collection `{name}` already exists!")
    vectors = _fields(fields["vectors"])
    qdrant.collections[name] = Collection(_int(vectors["size"]), str(vectors["distance"]))
    return True


def _delete(qdrant: Qdrant, name: str, _: Fields) -> object:
    return qdrant.collections.pop(name, None) is not None


def _describe(qdrant: Qdrant, name: str, _: Fields) -> object:
    collection = qdrant.collection(name)
    vectors = {"size": collection.size, "distance": collection.distance}
    return {
        "status": "green",
        "optimizer_status": "ok",
        "points_count": len(collection.points),
        "indexed_vectors_count": 0,
        "segments_count": 1,
        "config": {"params": {"vectors": vectors}, **_ENGINE},
        "payload_schema": {},
    }


def _upsert(qdrant: Qdrant, name: str, fields: Fields) -> object:
    collection = qdrant.collection(name)
    points = [_fields(point) for point in _items(fields["points"])]
    vectors = [[_float(value) for value in _items(point["vector"])] for point in points]
    for vector in vectors:
        if len(vector) != collection.size:
            raise Refused(f"Vector dimension error: expected dim: {collection.size}, got {len(vector)}")
    for point, vector in zip(points, vectors, strict=True):
        collection.points[_id(point["id"])] = (vector, dict(_fields(point.get("payload") or {})))
    return {"operation_id": len(qdrant.requests), "status": "completed"}


def _remove(qdrant: Qdrant, name: str, fields: Fields) -> object:
    collection = qdrant.collection(name)
    for point in _items(fields["points"]):
        collection.points.pop(_id(point), None)
    return {"operation_id": len(qdrant.requests), "status": "completed"}


def _search(qdrant: Qdrant, name: str, fields: Fields) -> object:
    """Score every point; `vector` is /points/search's word, `query` is /points/query's."""
    collection = qdrant.collection(name)
    asked = fields["vector"] if "vector" in fields else fields["query"]
    query = [_float(value) for value in _items(asked["nearest"] if isinstance(asked, dict) else asked)]
    if len(query) != collection.size:
        raise Refused(f"Vector dimension error: expected dim: {collection.size}, got {len(query)}")
    near = collection.distance == "Euclid"
    scored = [
        {"id": point, "version": 0, "score": _score(collection.distance, query, vector), "payload": payload}
        for point, (vector, payload) in collection.points.items()
        if _matches(payload, fields.get("filter"))
    ]
    scored.sort(key=lambda row: _float(row["score"]), reverse=not near)
    found = scored[: _int(fields.get("limit", 10))]
    return {"points": found} if "query" in fields else found


def _scroll(qdrant: Qdrant, name: str, fields: Fields) -> object:
    collection = qdrant.collection(name)
    points = sorted(collection.points, key=lambda point: (isinstance(point, str), point))
    matching = [point for point in points if _matches(collection.points[point][1], fields.get("filter"))]
    offset = fields.get("offset")
    start = matching.index(_id(offset)) if offset is not None else 0
    limit = _int(fields.get("limit", 10))
    page = matching[start : start + limit]
    rows = [{"id": point, "payload": collection.points[point][1]} for point in page]
    more = matching[start + limit : start + limit + 1]
    return {"points": rows, "next_page_offset": more[0] if more else None}


def _count(qdrant: Qdrant, name: str, fields: Fields) -> object:
    points = qdrant.collection(name).points.values()
    return {"count": sum(_matches(payload, fields.get("filter")) for _, payload in points)}


_COLLECTION = r"/collections/(?P<name>[^/]+)"
_ROUTES: tuple[tuple[str, str, Route], ...] = (
    ("GET", "/collections", _list),
    ("GET", _COLLECTION, _describe),
    ("GET", f"{_COLLECTION}/exists", _exists),
    ("PUT", _COLLECTION, _create),
    ("DELETE", _COLLECTION, _delete),
    ("PUT", f"{_COLLECTION}/points", _upsert),
    ("POST", f"{_COLLECTION}/points/delete", _remove),
    ("POST", f"{_COLLECTION}/points/search", _search),
    ("POST", f"{_COLLECTION}/points/query", _search),
    ("POST", f"{_COLLECTION}/points/scroll", _scroll),
    ("POST", f"{_COLLECTION}/points/count", _count),
)


def install(router: respx.MockRouter, base_url: str) -> Qdrant:
    """Route everything under `base_url` to a mocked Qdrant and return it."""
    qdrant = Qdrant(base_url.rstrip("/"))
    router.route(url__startswith=f"{qdrant.root}/").mock(side_effect=qdrant.answer)
    return qdrant


def _matches(payload: Mapping[str, object], wanted: object) -> bool:
    """Return whether a payload meets every `must` of a filter of exact values."""
    if wanted is None:
        return True
    for condition in _items(_fields(wanted).get("must") or []):
        said = _fields(condition)
        has, wants = payload.get(str(said["key"])), _fields(said["match"])["value"]
        if has != wants or isinstance(has, bool) is not isinstance(wants, bool):  # true is not 1
            return False
    return True


def _score(distance: str, one: list[float], other: list[float]) -> float:
    if distance == "Euclid":
        return math.dist(one, other)
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    if distance == "Dot":
        return dot
    return dot / ((math.hypot(*one) * math.hypot(*other)) or 1.0)


def _fields(value: object) -> Fields:
    if not isinstance(value, dict):
        raise Refused("expected a JSON object")
    return value


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Refused("expected a JSON array")
    return value


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise Refused("expected an integer")
    return value


def _float(value: object) -> float:
    if not isinstance(value, int | float):
        raise Refused("expected a number")
    return float(value)


def _id(value: object) -> int | str:
    if not isinstance(value, int | str):
        raise Refused("a point's id is an unsigned integer or a UUID")
    return value


def _error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"status": {"error": message}, "time": 0.0})
