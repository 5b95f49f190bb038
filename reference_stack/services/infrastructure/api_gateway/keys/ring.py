"""Who may come in: keys compared as keyed hashes, in constant time, and never in when in doubt."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from reference_stack.schemas.api.keys import ApiKey, KeyRepository, digest_of
from reference_stack.services.infrastructure.api_gateway.ports import in_task
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

log = logging.getLogger(__name__)

_PREFIX_BYTES = 8
_LONGEST_KEY = 512
# Guesses are remembered apart, so that they push no key out. Half a kilobyte each.
_MOST_KEYS = 64_000
_MOST_GUESSES = 10_000
# A key that the repository does not know is asked for again only after this long, so that guesses cost it little.
_UNKNOWN_S = 5.0
# While nobody tells of changes, keys are asked for again this often.
_UNTOLD_S = 0.5
# A key that is known waits this long for the repository to confirm it; the first that waited in vain is the last.
_PATIENCE_S = 0.02


class _No(Enum):
    OUT = auto()


@dataclass(frozen=True, slots=True)
class _Seen:
    key: ApiKey | None
    asked_at_s: float


class Shown:
    """What one connection showed last: the same again needs no hash.

    It is compared with what that very connection sends, so how long that takes tells nobody of another's key.
    """

    __slots__ = ("authorization", "digest")

    def __init__(self) -> None:
        self.authorization: list[bytes] = []
        self.digest = b""


class _Memory:
    """At most `most` digests, and the half of it that was used last: the older of two generations is dropped whole."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._young: dict[bytes, _Seen] = {}
        self._old: dict[bytes, _Seen] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, digest: bytes) -> _Seen | None:
        found = self._young.get(digest)
        if found is None and self._old:
            found = self._old.get(digest)
            if found is not None:
                self.put(digest, found)
        return found

    def put(self, digest: bytes, seen: _Seen) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[digest] = seen

    def forget(self, digest: bytes) -> None:
        self._young.pop(digest, None)
        self._old.pop(digest, None)


class KeyRing:
    """The keys of the settings, and those of a repository as far as they were asked for.

    A `schemas.api.keys.KeyListener`: what it is told has changed it asks for again before it lets it in.
    """

    def __init__(
        self,
        keys: Iterable[ApiKey],
        pepper: bytes,
        repository: KeyRepository | None = None,
        *,
        fresh_s: float = 30.0,
        stale_s: float = 300.0,
        told: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """A key found in `repository` is trusted for `fresh_s`, and while the repository cannot be asked for `stale_s`
        since it was last known to be right.

        With `told` somebody tells of changes: as long as it does, keys are known to be right; as long as it does not, a
        key is trusted for half a second.
        """
        self._own = {key.digest[:_PREFIX_BYTES]: key for key in keys}
        self._pepper = pepper
        self._repository = repository
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._clock = clock
        self._wall = wall
        self._keys = _Memory(_MOST_KEYS)
        self._guesses = _Memory(_MOST_GUESSES)
        self._asking: dict[bytes, asyncio.Task[ApiKey | _No | None]] = {}
        self._tasks: set[asyncio.Task[ApiKey | _No | None]] = set()  # asyncio itself holds them by no strong reference
        self._trusted_s = min(_UNTOLD_S, fresh_s) if told else fresh_s
        self._trusted_since_s = float("-inf")
        self._watched = False
        self._watched_since_s = self._watched_until_s = float("-inf")  # the last time that is over
        self._out = False

    def changed(self, digest: bytes) -> None:
        """Forget what is known of a key, and what is being asked: the answer may be from before the change."""
        self._keys.forget(digest)
        self._guesses.forget(digest)
        self._asking.pop(digest, None)

    def watched(self, watched: bool) -> None:
        """Ask for every key again, for a change may have been missed."""
        now_s = self._clock()
        if self._watched and not watched:
            self._watched_since_s, self._watched_until_s = self._trusted_since_s, now_s
        self._watched = watched
        self._trusted_s = self._fresh_s if watched else min(_UNTOLD_S, self._fresh_s)
        self._trusted_since_s = now_s

    async def admit(self, authorization: list[bytes], shown: Shown | None = None) -> ApiKey:
        """Return the key in the `Authorization` headers. Raises Refusal 401, or 503 when it cannot be checked."""
        digest = self._digest(authorization, shown)
        known = self._known(digest)
        if known is not None:
            return known
        found = None if self._repository is None else await self._find(digest)
        if found is None or not hmac.compare_digest(found.digest, digest) or found.expired(self._wall()):
            raise _unauthorized("the API key is not valid")
        return found

    def at_hand(self, authorization: list[bytes], shown: Shown | None) -> ApiKey | None:
        """Return the key where nobody need be asked for it; else None, and `admit` tells. Raises Refusal 401."""
        return self._known(self._digest(authorization, shown))

    def _digest(self, authorization: list[bytes], shown: Shown | None) -> bytes:
        if shown is not None and shown.digest and shown.authorization == authorization:
            return shown.digest
        digest = digest_of(_bearer(authorization), self._pepper)
        if shown is not None:
            shown.authorization, shown.digest = authorization, digest
        return digest

    def _known(self, digest: bytes) -> ApiKey | None:
        """Return the key of the settings, or the one that is remembered and trusted, with this digest."""
        # The prefix of a keyed hash says nothing of the key, so finding the candidate by it gives no time away.
        key = self._own.get(digest[:_PREFIX_BYTES])
        if key is None:
            seen = self._keys.get(digest)
            if seen is not None and self._trusts(seen.asked_at_s, self._trusted_s):
                key = seen.key
        if key is None or not hmac.compare_digest(key.digest, digest) or key.expired(self._wall()):
            return None
        return key

    def _trusts(self, asked_at_s: float, trusted_s: float) -> bool:
        return self._clock() - asked_at_s < trusted_s and asked_at_s >= self._trusted_since_s

    async def _find(self, digest: bytes) -> ApiKey | None:
        now_s = self._clock()
        seen = self._keys.get(digest) or self._guesses.get(digest)
        if seen is None:
            return await self._wait(self._ask(digest))
        trusted_s = self._trusted_s if seen.key is not None else min(_UNKNOWN_S, self._fresh_s)
        if self._trusts(seen.asked_at_s, trusted_s):
            return seen.key
        asking = self._ask(digest)
        if seen.key is None or now_s - self._right_at_s(seen, now_s) >= self._stale_s:
            return await self._wait(asking)
        return await self._confirm(seen.key, asking)

    def _right_at_s(self, seen: _Seen, now_s: float) -> float:
        """Return when a key was last known to be right: a change that is told of makes it forgotten."""
        if self._watched and seen.asked_at_s >= self._trusted_since_s:
            return now_s
        watched = self._watched_since_s <= seen.asked_at_s < self._watched_until_s
        return self._watched_until_s if watched else seen.asked_at_s

    async def _wait(self, asking: asyncio.Task[ApiKey | _No | None]) -> ApiKey | None:
        await in_task()
        await asyncio.wait({asking})
        found = asking.result()
        if isinstance(found, _No):
            message = "API keys cannot be checked at the moment"
            raise Refusal(503, "keys_unavailable", message, retry_after_s=1)
        return found

    async def _confirm(self, key: ApiKey, asking: asyncio.Task[ApiKey | _No | None]) -> ApiKey | None:
        """Return what the repository says of a known key, or the key while it cannot say."""
        if not self._out:
            await in_task()
            await asyncio.wait({asking}, timeout=_PATIENCE_S)
        if not asking.done():
            self._note(out=True)
            return key
        found = asking.result()
        return key if isinstance(found, _No) else found

    def _ask(self, digest: bytes) -> asyncio.Task[ApiKey | _No | None]:
        """Ask for a key, once for all who want it at the same time."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.ensure_future(self._look_up(digest, self._clock()))
            self._tasks.add(asking)
            asking.add_done_callback(self._tasks.discard)
        return asking

    async def _look_up(self, digest: bytes, asked_at_s: float) -> ApiKey | _No | None:
        assert self._repository is not None  # noqa: S101 - the caller saw to it
        found: ApiKey | _No | None
        try:
            found = await self._repository.find_key(digest)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the store, nobody comes in for it
            self._note(out=True, why=type(error).__name__)
            found = _No.OUT
        if self._asking.get(digest) is not asyncio.current_task():
            return found
        del self._asking[digest]
        if not isinstance(found, _No):
            self._note(out=False)
            self._remember(digest, _Seen(found, asked_at_s))
        return found

    def _remember(self, digest: bytes, seen: _Seen) -> None:
        self._keys.forget(digest)
        self._guesses.forget(digest)
        (self._guesses if seen.key is None else self._keys).put(digest, seen)

    def _note(self, *, out: bool, why: str = "no answer in time") -> None:
        if out and not self._out:
            log.warning("keys cannot be checked: %s; those that are known come in for %g s", why, self._stale_s)
        elif self._out and not out:
            log.info("keys are checked again")
        self._out = out


def _bearer(authorization: list[bytes]) -> bytes:
    if not authorization:
        raise _unauthorized("no API key was given; send it as `Authorization: Bearer KEY`")
    scheme, space, key = authorization[0].partition(b" ")
    if len(authorization) > 1 or scheme.lower() != b"bearer" or not space or not 0 < len(key) <= _LONGEST_KEY:
        raise _unauthorized("the Authorization header is not `Bearer KEY`")
    return key


def _unauthorized(message: str) -> Refusal:
    return Refusal(401, "invalid_api_key", message)
