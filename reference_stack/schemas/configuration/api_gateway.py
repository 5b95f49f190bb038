"""Settings of the API gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, model_validator

from reference_stack.schemas.api.keys import UNLIMITED, ApiKey, KeptAnswers, KeyLimits
from reference_stack.schemas.configuration.admin import AdminSettings
from reference_stack.schemas.configuration.base import Secret, ServiceSettings, Settings
from reference_stack.schemas.configuration.process import MetricsDoorSettings, ProcessSettings
from reference_stack.schemas.configuration.retrieval import RetrievalSettings
from reference_stack.schemas.configuration.traces import TraceSettings
from reference_stack.schemas.configuration.upstream import RoutingSettings, UpstreamSettings

_Positive = Annotated[int, Field(gt=0)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]
_LEAST_PEPPER_BYTES = 16


_Limit = Annotated[int, Field(ge=0, le=10**12)]


class KeySettings(Settings):
    """One key that may come in: the hex form of its keyed hash, and the models and stores that it may use ("*" is all).

    Its limits are as those of keys in the database, but for the budget, which needs one; none is no limit.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    models: tuple[str, ...] = ("*",)
    tenant: str = Field(default="", max_length=64)
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    concurrent: _Limit | None = None
    answers: KeptAnswers = "off"
    expires: AwareDatetime | None = None

    def key(self) -> ApiKey:
        """Return the key as the gateway knows keys."""
        limits = KeyLimits(self.requests_per_minute, self.tokens_per_minute, self.concurrent)
        known = UNLIMITED if limits == UNLIMITED else limits
        digest = bytes.fromhex(self.hash)
        return ApiKey(self.id, digest, frozenset(self.models), self.tenant, known, self.answers, self.expires)


class LimitSettings(Settings):
    """What one request, and all of them together, may cost the gateway.

    A head must come within `headers_s`, a body within `body_s` after it; a kept connection may be silent for `idle_s`,
    and a client that is written to must take 48 KiB within `write_s`.
    """

    body_bytes: _Positive = 4 * 1024 * 1024
    body_depth: _Positive = 32
    body_s: _Seconds = 30.0
    headers_s: _Seconds = 10.0
    idle_s: _Seconds = 5.0
    write_s: _Seconds = 30.0
    header_bytes: _Positive = 32 * 1024
    connections: _Positive = 10_000
    answer_bytes: _Positive = 64 * 1024 * 1024
    in_flight: _Positive = 4096
    messages: _Positive = 2048
    choices: _Positive = 16
    output_tokens: _Positive = 131_072


class JournalSettings(Settings):
    """Where usage is written down before it is stored, a folder of this gateway alone; without `directory` it is not.

    What was written is synced to the disk at most `sync_s` later: so much a loss of power may cost, while the death of
    a process costs nothing. With `wait_synced` a request waits for that before it goes to its model. A process whose
    unshipped segments take `most_bytes` refuses requests.
    """

    directory: Path | None = None
    sync_s: Annotated[float, Field(gt=0, le=60)] = 0.05
    wait_synced: bool = False
    segment_bytes: Annotated[int, Field(ge=4096)] = 8 * 1024 * 1024
    most_bytes: _Positive = 1024 * 1024 * 1024

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.most_bytes < 2 * self.segment_bytes:
            raise ValueError("journal.most_bytes must hold two segments: the one being written stays")
        return self


class AnswerSettings(Settings):
    """Answers kept in the cache for keys that opted in: for how long, and how large one may be."""

    ttl_s: _Seconds = 300.0
    most_bytes: _Positive = 256 * 1024


class ApiGatewaySettings(ServiceSettings):
    """The gateway's upstreams by public model name, who may come in, and its limits.

    Keys come from `keys` and, with `database_dsn`, from the database; both need the pepper under which keys are
    hashed, in a file or an environment variable, never here. `timeout_s` bounds a request from its acceptance to the
    end of its answer. `key_cache_s` is how long a key found in the database is trusted while the database tells of
    changes (half a second while it does not); `key_stale_s` is how long while it cannot be asked, since it last told.
    `cache_url` is for what processes share, the limits of keys and kept answers; a call to it takes `cache_s` at most.
    `workers` is how many processes serve on the one listening socket; their parent is one more. While the cache is out,
    or where there is none, each worker of each of `sharers` gateways allows its part of each limit. With `hot_path`
    completions go past FastAPI, to the same effect. Without `retrieval` there is no route that searches documents.
    """

    upstreams: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]{1,64}$")], UpstreamSettings] = Field(
        default_factory=dict
    )
    keys: tuple[KeySettings, ...] = ()
    pepper_file: Path | None = None
    pepper_env: str | None = None
    database_dsn: Secret | None = None
    cache_url: Secret | None = None
    cache_s: _Seconds = 0.02
    sharers: _Positive = 1
    timeout_s: _Seconds = 300.0
    connect_s: _Seconds = 5.0
    health_s: _Seconds = 2.0
    key_cache_s: _Seconds = 300.0
    key_stale_s: _Seconds = 300.0
    usage_rows_held: _Positive = 100_000
    open_docs: bool = False
    hot_path: bool = True
    limits: LimitSettings = LimitSettings()
    routing: RoutingSettings = RoutingSettings()
    answers: AnswerSettings = AnswerSettings()
    admin: AdminSettings | None = None
    journal: JournalSettings = JournalSettings()
    workers: int = Field(default=1, ge=1, le=64)
    process: ProcessSettings = ProcessSettings()
    metrics: MetricsDoorSettings = MetricsDoorSettings()
    traces: TraceSettings = TraceSettings()
    retrieval: RetrievalSettings | None = None

    @classmethod
    def in_flight(cls) -> frozenset[str]:
        """Its workers are renewed with whatever is new, and share a port for metrics that stays as it is."""
        return frozenset(cls.model_fields) - {"metrics"}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.pepper_file is not None and self.pepper_env is not None:
            raise ValueError("give pepper_file or pepper_env, not both")
        if (self.keys or self.database_dsn) and self.pepper_file is None and self.pepper_env is None:
            raise ValueError("keys need a pepper: give pepper_file or pepper_env")
        if self.admin is not None and self.database_dsn is None:
            raise ValueError("admin needs a database: give database_dsn")
        for what, names in (("id", [key.id for key in self.keys]), ("hash", [key.hash for key in self.keys])):
            if len(set(names)) < len(names):
                raise ValueError(f"two keys have the same {what}")
        for key in self.keys:
            unknown = set(key.models) - {"*", *self.upstreams, *self.stores}
            if unknown:
                raise ValueError(f"key {key.id!r} names a model that has no upstream: {min(unknown)!r}")
        both = self.stores & self.upstreams.keys()
        if both:
            raise ValueError(f"a model and a store have the same name: {min(both)!r}")
        self.pepper()
        return self

    @property
    def stores(self) -> frozenset[str]:
        """The stores of documents that clients may search."""
        return frozenset() if self.retrieval is None else self.retrieval.stores

    def pepper(self) -> bytes:
        """Return the pepper; b"" where none is configured. Raises ValueError when it is missing or under 16 bytes."""
        if self.pepper_file is not None:
            try:
                pepper = self.pepper_file.read_bytes().strip()
            except OSError as error:
                raise ValueError(f"cannot read pepper_file {self.pepper_file}: {error.strerror}") from None
        elif self.pepper_env is not None:
            pepper = os.environ.get(self.pepper_env, "").encode().strip()
        else:
            return b""
        if len(pepper) < _LEAST_PEPPER_BYTES:
            raise ValueError(f"the pepper is missing or shorter than {_LEAST_PEPPER_BYTES} bytes")
        return pepper
