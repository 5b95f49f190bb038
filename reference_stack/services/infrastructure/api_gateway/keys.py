"""Who may come in: keys compared as keyed hashes, in constant time, and never in when in doubt."""

from __future__ import annotations

import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from reference_stack.schemas.api.keys import ApiKey, KeyRepository, digest_of
from reference_stack.services.infrastructure.api_gateway.refusal import Refusal

log = logging.getLogger(__name__)

_PREFIX_BYTES = 8
_LONGEST_KEY = 512
_REMEMBERED = 10_000
# A key that the repository does not know is asked for again only after this long, so that guesses cost it little.
_UNKNOWN_S = 5.0


class KeyRing:
    """The keys of the settings, and those of a repository as far as they were asked for."""

    def __init__(
        self,
        keys: Iterable[ApiKey],
        pepper: bytes,
        repository: KeyRepository | None = None,
        *,
        fresh_s: float = 30.0,
        stale_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A key found in `repository` is trusted for `fresh_s`, for `stale_s` while the repository cannot be asked."""
        self._own = {key.digest[:_PREFIX_BYTES]: key for key in keys}
        self._pepper = pepper
        self._repository = repository
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._clock = clock
        self._seen: OrderedDict[bytes, tuple[ApiKey | None, float]] = OrderedDict()

    async def admit(self, authorization: list[bytes]) -> ApiKey:
        """Return the key in the `Authorization` headers. Raises Refusal 401, or 503 when it cannot be checked."""
        digest = digest_of(_bearer(authorization), self._pepper)
        # The prefix of a keyed hash says nothing of the key, so finding the candidate by it gives no time away.
        own = self._own.get(digest[:_PREFIX_BYTES])
        if own is not None and hmac.compare_digest(own.digest, digest):
            return own
        found = await self._ask(digest) if self._repository is not None else None
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise _unauthorized("the API key is not valid")
        return found

    async def _ask(self, digest: bytes) -> ApiKey | None:
        assert self._repository is not None  # noqa: S101 - the caller saw to it
        now = self._clock()
        known, asked_at = self._seen.get(digest, (None, float("-inf")))
        if now - asked_at < (_UNKNOWN_S if known is None else self._fresh_s):
            return known
        try:
            found = await self._repository.find_key(digest)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the store, nobody comes in for it
            log.warning("keys cannot be checked: %s", type(error).__name__)
            if known is not None and now - asked_at < self._stale_s:
                return known
            message = "API keys cannot be checked at the moment"
            raise Refusal(503, "keys_unavailable", message, retry_after_s=1) from None
        self._seen[digest] = (found, now)
        self._seen.move_to_end(digest)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return found


def _bearer(authorization: list[bytes]) -> bytes:
    if not authorization:
        raise _unauthorized("no API key was given; send it as `Authorization: Bearer KEY`")
    scheme, space, key = authorization[0].partition(b" ")
    if len(authorization) > 1 or scheme.lower() != b"bearer" or not space or not 0 < len(key) <= _LONGEST_KEY:
        raise _unauthorized("the Authorization header is not `Bearer KEY`")
    return key


def _unauthorized(message: str) -> Refusal:
    return Refusal(401, "invalid_api_key", message)
