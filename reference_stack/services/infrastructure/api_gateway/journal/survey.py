"""What a journal holds, read by somebody who neither writes nor ships: no lock is taken, nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from reference_stack.schemas.api.usage import UsageRow
from reference_stack.services.infrastructure.api_gateway.journal.fold import Fold
from reference_stack.services.infrastructure.api_gateway.journal.lane import lanes, segments
from reference_stack.services.infrastructure.api_gateway.journal.record import skim


def written(directory: Path) -> Iterator[tuple[list[UsageRow], list[str]]]:
    """Give for each segment the rows that end in it, stored already or not, and for each lane the ids that are open.

    A segment that is shipped and removed meanwhile is left out: its rows are stored.
    """
    for lane in lanes(directory):
        fold = Fold()
        for number, path in segments(lane):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            rows = fold.read(skim(data).texts, number)
            fold.stored()
            yield list(rows), []
        yield [], [json.loads(b'"%b"' % name) for name in fold.open]
