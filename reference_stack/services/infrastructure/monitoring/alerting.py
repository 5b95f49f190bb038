"""Who is told of which alerts, and when: grouped, silenced, repeated, resolved. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reference_stack.services.integration.metrics.port import Firing

Labels = tuple[tuple[str, str], ...]
Status = Literal["firing", "resolved"]


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts with all these labels (`alertname` is one) are not told of until `until_s` (seconds since 1970)."""

    id: str
    matchers: Mapping[str, str]
    until_s: float
    comment: str = ""

    def covers(self, alert: Firing, now_s: float) -> bool:
        labels = {**alert.labels, "alertname": alert.name}
        return now_s < self.until_s and all(labels.get(key) == value for key, value in self.matchers.items())


@dataclass(frozen=True, slots=True)
class Notification:
    """What is told at once: all alerts of one name, and which of them are over."""

    group: str
    status: Status
    firing: tuple[Firing, ...]
    resolved: tuple[Firing, ...] = ()


@dataclass(slots=True)
class _Group:
    new_s: float | None = None  # since when there is something that was not told yet
    told: dict[Labels, Firing] = field(default_factory=dict)
    told_s: float | None = None


def key_of(alert: Firing) -> Labels:
    """Return what tells one alert from another of its name."""
    return tuple(sorted(alert.labels.items()))


class Grouping:
    """Remembers what was told. Alerts of one name are a group: a neighbour that falls a moment later comes with it.

    A new group is told after `wait_s`, so that what belongs together comes together; what joins it, after as long; one
    that goes on, again every `repeat_s`; one that is over, at once. All in seconds.
    """

    def __init__(self, wait_s: float, repeat_s: float) -> None:
        self._wait_s = wait_s
        self._repeat_s = repeat_s
        self._groups: dict[str, _Group] = {}

    def change(self, wait_s: float, repeat_s: float) -> None:
        """From the next step on wait and repeat so."""
        self._wait_s, self._repeat_s = wait_s, repeat_s

    def step(self, alerts: Sequence[Firing], silences: Sequence[Silence], now_s: float) -> list[Notification]:
        """Return what is to be told now, given every alert that fires."""
        loud = [each for each in alerts if each.firing and not any(one.covers(each, now_s) for one in silences)]
        heard = {(each.name, key_of(each)) for each in loud}
        quiet = {(each.name, key_of(each)) for each in alerts if each.firing} - heard
        by_name: dict[str, dict[Labels, Firing]] = {name: {} for name in self._groups}
        for each in loud:
            by_name.setdefault(each.name, {})[key_of(each)] = each
        told = [self._one(name, now, quiet, now_s) for name, now in sorted(by_name.items())]
        return [each for each in told if each is not None]

    def _one(
        self, name: str, now: Mapping[Labels, Firing], quiet: set[tuple[str, Labels]], now_s: float
    ) -> Notification | None:
        group = self._groups.setdefault(name, _Group())
        for key in [key for key in group.told if (name, key) in quiet]:
            del group.told[key]  # it goes on, and somebody knows: neither told again nor called over
        over = tuple(alert for key, alert in group.told.items() if key not in now)
        new = [key for key in now if key not in group.told]
        if not new:
            group.new_s = None
        elif group.new_s is None:
            group.new_s = now_s
        waited = group.new_s is not None and now_s >= group.new_s + self._wait_s
        again = bool(group.told) and bool(now) and group.told_s is not None and now_s >= group.told_s + self._repeat_s
        if not (over or waited or again):
            if not now and not group.told:
                del self._groups[name]
            return None
        for alert in over:
            del group.told[key_of(alert)]
        if waited or again:
            group.told = dict(now)
            group.new_s = None
        group.told_s = now_s
        firing = tuple(group.told.values())
        if not group.told and not now:
            del self._groups[name]
        return Notification(name, "firing" if firing else "resolved", firing, over)
