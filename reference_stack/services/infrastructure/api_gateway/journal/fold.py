"""What records come to: rows to store, requests that are open, and segments that nothing is needed of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from reference_stack.schemas.api.usage import UsageRow
from reference_stack.services.infrastructure.api_gateway.journal.marks import Progress
from reference_stack.services.infrastructure.api_gateway.journal.record import Accepted, Final, Record

# The client of a request that was cut off with its gateway saw no status; the row has that of a server's failure.
_NO_STATUS = 500


@dataclass(slots=True)
class Fold:
    """Reads the records of one lane in order."""

    open: dict[str, tuple[Accepted, int]] = field(default_factory=dict)
    _ended: dict[str, int] = field(default_factory=dict)
    _unsettled: dict[int, int] = field(default_factory=dict)  # by segment

    def read(self, records: Iterable[Record], segment: int) -> list[UsageRow]:
        """Return the rows that these records of segment number `segment` complete."""
        rows = []
        for record in records:
            if isinstance(record, Accepted):
                self.open[record.request_id] = (record, segment)
                self._unsettled[segment] = self._unsettled.get(segment, 0) + 1
            elif isinstance(record, Final):
                found = self.open.pop(record.request_id, None)
                if found is not None:
                    self._ended[record.request_id] = found[1]
                rows.append(record.row())
        return rows

    def left(self, progress: Callable[[int, int], Progress], ended_at_s: float) -> list[UsageRow]:
        """Return the rows of what is open when its process has died: interrupted, billed as far as it came.

        `progress` is asked with a request's mark and serial number; `ended_at_s` (wall clock) bounds how long it took.
        """
        rows = []
        for accepted, segment in self.open.values():
            self._ended[accepted.request_id] = segment
            rows.append(_interrupted(accepted, progress(accepted.mark, accepted.serial), ended_at_s))
        self.open.clear()
        return rows

    def stored(self, rows: Iterable[UsageRow]) -> None:
        """Note that `rows` need the journal no more."""
        for row in rows:
            segment = self._ended.pop(row.request_id, None)
            if segment is not None:
                self._unsettled[segment] -= 1

    def settled(self, rows: Iterable[UsageRow]) -> None:
        """Note that `rows` were stored although their ends were never read."""
        for row in rows:
            found = self.open.pop(row.request_id, None)
            if found is not None:
                self._unsettled[found[1]] -= 1

    def needs(self, segment: int) -> bool:
        """Whether a request that was accepted in this segment is open or not stored."""
        return self._unsettled.get(segment, 0) > 0


def _interrupted(accepted: Accepted, progress: Progress, ended_at_s: float) -> UsageRow:
    return UsageRow(
        request_id=accepted.request_id,
        client_request_id=accepted.client_request_id,
        key_id=accepted.key_id,
        tenant=accepted.tenant,
        model=accepted.model,
        route=accepted.route,
        outcome="interrupted",
        status=200 if progress.started else _NO_STATUS,
        stream=accepted.stream,
        prompt_tokens=None,
        output_tokens=progress.tokens,
        exact=False,
        accepted_at_s=accepted.accepted_at_s,
        took_s=max(0.0, ended_at_s - accepted.accepted_at_s),
    )
