"""The silences in force, kept in a file so that a restart of the service wakes nobody."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import msgspec

from reference_stack.errors import StackError
from reference_stack.services.infrastructure.durable import write_whole
from reference_stack.services.infrastructure.monitoring.alerting import Silence

log = logging.getLogger(__name__)
_ASIDE = ".unreadable"


class NotKept(StackError):
    """The disk does not take the silences; those that were in force before still are."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    silences: list[Silence]
    schema: int = 1


class Silences:
    """Those of `file`, written whole with every change; with None they last as long as this process."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known = {} if file is None else _read(file)

    def in_force(self, now_s: float) -> list[Silence]:
        """Return those that have not ended at `now_s` (seconds since 1970), in the order in which they were made."""
        return [one for one in self._known.values() if one.until_s > now_s]

    def add(self, matchers: Mapping[str, str], for_s: float, comment: str) -> Silence:
        """Tell nobody of the alerts with these labels for `for_s` seconds. Raises NotKept, and nothing is changed."""
        made = Silence(uuid.uuid4().hex[:12], dict(matchers), time.time() + for_s, comment)
        self._keep({one.id: one for one in [*self.in_force(time.time()), made]})
        return made

    def lift(self, silence_id: str) -> bool:
        """End a silence; False when there is none of that id. Raises NotKept, and nothing is changed."""
        left = {one.id: one for one in self.in_force(time.time())}
        if left.pop(silence_id, None) is None:
            return False
        self._keep(left)
        return True

    def _keep(self, wanted: dict[str, Silence]) -> None:
        if self._file is not None:
            content = msgspec.json.encode({"schema": 1, "silences": [asdict(one) for one in wanted.values()]})
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._file, content)
            except OSError as error:
                raise NotKept(f"the silences cannot be kept in {self._file.name}: {error.strerror}") from None
        self._known = wanted


def _read(file: Path) -> dict[str, Silence]:
    """Return what was kept; a file that says something else is put aside, for people to read, and alarms are told."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_File).silences
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("the silences in %s cannot be read and are not in force: %s", file, error)
        try:
            file.replace(file.with_name(file.name + _ASIDE))
        except OSError as refused:
            log.warning("%s stays where it is: %s", file, refused.strerror)
        return {}
    return {one.id: one for one in found}
