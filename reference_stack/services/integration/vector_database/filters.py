"""Qdrant's filters, from the REST schema to the engine's own."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import qdrant_edge as edge
from qdrant_client import models


class UnknownCondition(ValueError):
    """The embedded engine is not asked this kind of condition."""


def to_edge(condition: models.Filter) -> edge.Filter:
    """Return `condition` for the engine. Raises UnknownCondition for geo, nested and other rarer kinds."""
    minimum = condition.min_should
    return edge.Filter(
        must=_all(condition.must),
        should=_all(condition.should),
        must_not=_all(condition.must_not),
        min_should=None
        if minimum is None
        else edge.MinShould([_one(row) for row in minimum.conditions], minimum.min_count),
    )


def _all(conditions: object) -> list[edge.ConditionType] | None:
    if conditions is None:
        return None
    rows = conditions if isinstance(conditions, list) else [conditions]
    return [_one(row) for row in rows]


def _one(condition: object) -> edge.ConditionType:
    match condition:
        case models.Filter():
            return to_edge(condition)
        case models.HasIdCondition():
            return edge.HasIdCondition(set(condition.has_id))
        case models.IsEmptyCondition():
            return edge.IsEmptyCondition(condition.is_empty.key)
        case models.IsNullCondition():
            return edge.IsNullCondition(condition.is_null.key)
        case models.FieldCondition() if condition.match is not None:
            return edge.FieldCondition(condition.key, match=_match(condition.match))
        case models.FieldCondition() if condition.range is not None:
            return edge.FieldCondition(condition.key, range=_range(condition.range))
    raise UnknownCondition(f"the embedded engine does not know the condition {type(condition).__name__}")


def _match(match: object) -> edge.MatchType:
    match match:
        case models.MatchValue():
            if isinstance(match.value, bool):
                # Of Python's own booleans the engine makes 0 and 1, which match none in a payload.
                return edge.MatchValue(np.bool_(match.value))  # type: ignore[arg-type]  # its types do not say so
            return edge.MatchValue(match.value)
        case models.MatchAny():
            return edge.MatchAny(match.any)
        case models.MatchExcept():
            return edge.MatchExcept(match.except_)
        case models.MatchText():
            return edge.MatchText(match.text)
    raise UnknownCondition(f"the embedded engine does not know the match {type(match).__name__}")


def _range(limits: models.Range | models.DatetimeRange) -> edge.RangeType:
    if isinstance(limits, models.Range):
        return edge.RangeFloat(gte=limits.gte, gt=limits.gt, lte=limits.lte, lt=limits.lt)
    return edge.RangeDateTime(gte=_text(limits.gte), gt=_text(limits.gt), lte=_text(limits.lte), lt=_text(limits.lt))


def _text(moment: object) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime) else None
