"""What records come to: rows to store, requests that are open, and segments that nothing is needed of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from reference_stack.schemas.api.usage import UsageRow, WrittenRows
from reference_stack.services.infrastructure.api_gateway.journal.marks import Progress
from reference_stack.services.infrastructure.api_gateway.journal.record import (
    ACCEPTED,
    FINAL,
    Accepted,
    id_of,
    key_of,
    record_of,
    row_of,
)

# The client of a request that was cut off with its gateway saw no status; the row has that of a server's failure.
_NO_STATUS = 500


@dataclass(slots=True)
class Fold:
    """Reads the records of one lane in order. Requests are known by their ids as JSON has them."""

    open: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)  # the text of the acceptance, its segment
    _ended: dict[bytes, int] = field(default_factory=dict)
    _unsettled: dict[int, int] = field(default_factory=dict)  # by segment

    def read(self, texts: Iterable[bytes], segment: int) -> WrittenRows:
        """Return the rows that these records of segment number `segment` complete."""
        finals = []
        accepted = 0
        for text in texts:
            if text.startswith(ACCEPTED):
                self.open[id_of(text, ACCEPTED)] = (text, segment)
                accepted += 1
            elif text.startswith(FINAL):
                finals.append(text)
                name = id_of(text, FINAL)
                found = self.open.pop(name, None)
                if found is not None:
                    self._ended[name] = found[1]
        self._unsettled[segment] = self._unsettled.get(segment, 0) + accepted
        return WrittenRows(finals, row_of)

    def left(self, progress: Callable[[int, int], Progress], ended_at_s: float) -> list[UsageRow]:
        """Return the rows of what is open when its process has died: interrupted, billed as far as it came.

        `progress` is asked with a request's mark and serial number; `ended_at_s` (wall clock) bounds how long it took.
        """
        rows = []
        for text, _ in self.open.values():
            accepted = record_of(text)
            if isinstance(accepted, Accepted):
                rows.append(_interrupted(accepted, progress(accepted.mark, accepted.serial), ended_at_s))
        self.open.clear()
        return rows

    def stored(self) -> None:
        """Note that the rows which were read need the journal no more."""
        for segment in self._ended.values():
            self._unsettled[segment] -= 1
        self._ended.clear()

    def settled(self, rows: Iterable[UsageRow]) -> None:
        """Note that `rows` were stored although their ends were never read."""
        for row in rows:
            found = self.open.pop(key_of(row.request_id), None)
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
