"""What an administrator says of keys, and what is shown of one: all but the secret."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from reference_stack.schemas.api.keys import ApiKey, KeptAnswers, KeyLimits, StoredKey

MOST = 10**12
_Limit = Annotated[int, Field(ge=0, le=MOST)]
_Model = Annotated[str, Field(pattern=r"^([A-Za-z0-9._/-]{1,64}|\*)$")]
_Words = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]
_Tenant = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=64)]
KEY_ID = r"^[A-Za-z0-9._-]{1,64}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyTerms(_Strict):
    """Terms of a key; those that are not said stay as they are. null lifts a limit, or the expiry."""

    name: _Words = ""
    tenant: _Tenant = ""
    models: Annotated[tuple[_Model, ...], Field(min_length=1)] = ("*",)
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    concurrent: _Limit | None = None
    budget_tokens: _Limit | None = None
    answers: KeptAnswers = "off"
    expires: AwareDatetime | None = None

    def of(self, stored: StoredKey) -> StoredKey:
        """Return `stored` under these terms."""
        said = {name: getattr(self, name) for name in KeyTerms.model_fields if name in self.model_fields_set}
        limits = {name: said.pop(name) for name in KeyLimits.__slots__ if name in said}
        name = said.pop("name", stored.name)
        if "models" in said:
            said["models"] = frozenset(said["models"])
        key = replace(stored.key, **said, limits=replace(stored.key.limits, **limits))
        return replace(stored, key=key, name=name)


class NewKey(KeyTerms):
    """A key to be made; its id is made up unless given."""

    id: Annotated[str, Field(pattern=KEY_ID)] | None = None

    def stored(self, key_id: str, digest: bytes) -> StoredKey:
        return self.of(StoredKey(ApiKey(key_id, digest, frozenset(self.models))))


class ChangedKey(KeyTerms):
    """Terms of a key that change; `budget_taken` says how many tokens of its budget are taken."""

    budget_taken: _Limit | None = None


class Rotation(_Strict):
    """A new secret for a key; the one before it lives for `grace_s` seconds more."""

    grace_s: Annotated[float, Field(ge=0, le=90 * 86_400)] = 0.0


class ShownKey(_Strict):
    """A key as its administrators see it; `former_secret_until` is when the secret before a rotation ends."""

    id: Annotated[str, Field(pattern=KEY_ID)]
    name: str
    tenant: str
    models: tuple[str, ...]
    requests_per_minute: _Limit | None
    tokens_per_minute: _Limit | None
    concurrent: _Limit | None
    budget_tokens: _Limit | None
    answers: KeptAnswers
    expires: AwareDatetime | None
    former_secret_until: AwareDatetime | None
    state: Literal["valid", "expired", "revoked"]


class FoundKey(ShownKey):
    """One key that was asked for, with how many tokens of its budget are taken."""

    budget_taken: Annotated[int, Field(ge=0)]


class MadeKey(ShownKey):
    """A key with the secret that it was given: the only time that it is told."""

    secret: str


class KeyPage(_Strict):
    """Keys in the order of their ids; `after` is where the next page begins, null on the last."""

    object: Literal["list"]
    data: tuple[ShownKey, ...]
    after: str | None


def shown(stored: StoredKey, now: datetime) -> dict[str, object]:
    """Return what may be seen of a key, as JSON has it: a ShownKey."""
    key = stored.key
    former = stored.former_until if stored.former_until is not None and stored.former_until > now else None
    return {
        "id": key.id,
        "name": stored.name,
        "tenant": key.tenant,
        "models": sorted(key.models),
        **asdict(key.limits),
        "answers": key.answers,
        "expires": None if key.expires is None else key.expires.isoformat(),
        "former_secret_until": None if former is None else former.isoformat(),
        "state": "revoked" if stored.revoked else "expired" if key.expired(now.timestamp()) else "valid",
    }
