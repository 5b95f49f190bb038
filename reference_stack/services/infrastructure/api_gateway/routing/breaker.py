"""A circuit breaker: keeps requests from a server that fails, and lets a few through to find out whether it is well."""

from __future__ import annotations


class Breaker:
    """Opens when `failures` of the last `of` judged answers failed, stays open `open_s`, then is half open.

    Half open, at most `trials` requests are out at once: the first that succeeds closes it, one that fails opens it for
    another `open_s`. What was begun before it opened says nothing any more and is not judged. The window counts answers
    and not seconds, so that a busy server with a rare failure never comes near and an idle one is not forgotten.
    """

    __slots__ = ("_failures", "_full", "_open_s", "_trials", "opened", "trials_out", "until_s", "window")

    def __init__(self, *, failures: int, of: int, open_s: float, trials: int) -> None:
        self._failures = failures
        self._full = (1 << of) - 1
        self._open_s = open_s
        self._trials = trials
        self.window = 0  # one bit an answer, the latest lowest; 1 is a failure
        self.until_s: float | None = None  # of an open breaker; None is closed
        self.trials_out = 0
        self.opened = 0  # how often, since the start

    @property
    def closed(self) -> bool:
        return self.until_s is None

    def half_open(self, now_s: float) -> bool:
        return self.until_s is not None and now_s >= self.until_s

    @property
    def trial_free(self) -> bool:
        """Whether one more trial may go out, should one be wanted."""
        return self.trials_out < self._trials

    def begin_trial(self) -> None:
        self.trials_out += 1

    def end_trial(self) -> None:
        self.trials_out -= 1

    def judge(self, *, failed: bool, trial: bool, now_s: float) -> None:
        """Take one answer into account."""
        if self.until_s is None:
            self.window = (self.window << 1 | failed) & self._full
            if failed and self.window.bit_count() >= self._failures:
                self._open(now_s)
        elif trial and failed:
            self._open(now_s)
        elif trial:
            self.close()

    def close(self) -> None:
        """Trust the server again, with nothing held against it."""
        self.until_s = None
        self.window = 0

    def _open(self, now_s: float) -> None:
        if self.until_s is None:
            self.opened += 1
        self.until_s = now_s + self._open_s
        self.window = 0
