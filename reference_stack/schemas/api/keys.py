"""An API key as the gateway knows it: never the key itself, only its keyed hash, and what the key may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

ALL_MODELS = "*"

# off: every answer is made; exact: an answer to a request of temperature 0 may be one kept from before; sampled: any.
KeptAnswers = Literal["off", "exact", "sampled"]


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may use over all workers together; None is no limit, 0 is nothing.

    `budget_tokens` is for the whole life of the key, prompt and output together, as `tokens_per_minute` is.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    budget_tokens: int | None = None


UNLIMITED = KeyLimits()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: `models` names what it may use, or holds "*" for all; `digest` is what `digest_of` makes of the key.

    `expires` is aware; None: never.
    """

    id: str
    digest: bytes
    models: frozenset[str]
    tenant: str = ""
    limits: KeyLimits = UNLIMITED
    answers: KeptAnswers = "off"
    expires: datetime | None = None

    def may_use(self, model: str) -> bool:
        return model in self.models or ALL_MODELS in self.models

    def expired(self, now_s: float) -> bool:
        """Whether it is over at `now_s`, in seconds since 1970."""
        return self.expires is not None and self.expires.timestamp() <= now_s


class KeyRepository(Protocol):
    """Where keys are kept besides the settings file."""

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """Return the valid key with this digest, None when there is none; raise when the store cannot tell."""
        ...


class KeyListener(Protocol):
    """Whoever remembers keys, and must hear when they change."""

    def changed(self, digest: bytes) -> None:
        """What is remembered of the key with this digest may be wrong."""
        ...

    def watched(self, watched: bool) -> None:
        """From now on changes are told, or are not; either way some may have been missed until now."""
        ...


class KeyFeed(Protocol):
    """Tells of every change to a key, within a second while the store can be reached."""

    async def follow(self, listener: KeyListener) -> None:
        """Tell `listener` until cancelled; never raises for a store that is out."""
        ...


Alter = Callable[["StoredKey"], "StoredKey"]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with what its owner wrote about it.

    After a rotation the secret before it has the digest `former_digest`, and is valid until `former_until`.
    """

    key: ApiKey
    name: str = ""
    revoked: bool = False
    former_digest: bytes | None = None
    former_until: datetime | None = None

    def as_shown(self, digest: bytes) -> ApiKey:
        """Return the key as whoever shows the secret of `digest` has it: a former secret ends with its time."""
        if digest == self.key.digest or self.former_until is None:
            return self.key
        ends = self.former_until if self.key.expires is None else min(self.former_until, self.key.expires)
        return replace(self.key, digest=digest, expires=ends)


def digest_of(key: bytes, pepper: bytes) -> bytes:
    """Return HMAC-SHA256 of `key` under `pepper` (32 bytes): of no use to who steals it without the pepper."""
    return hmac.digest(pepper, key, hashlib.sha256)
