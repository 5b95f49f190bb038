"""Settings of the gateway's way to the models: their servers, and how requests find one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, HttpUrl, field_validator, model_validator

from reference_stack.schemas.configuration.base import Secret, Settings

_Positive = Annotated[int, Field(gt=0)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class BackendSettings(Settings):
    """One OpenAI-compatible server; `base_url` ends in /v1. `api_key` is what the gateway shows it.

    A server of twice the `weight` gets twice the requests, and never more than `max_in_flight` at once.
    """

    base_url: HttpUrl
    api_key: Secret | None = None
    weight: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    max_in_flight: _Positive | None = None

    @field_validator("base_url")
    @classmethod
    def _ends_in_v1(cls, url: HttpUrl) -> HttpUrl:
        if not (url.path or "").rstrip("/").endswith("/v1") or url.query or url.fragment:
            raise ValueError("must end in /v1, for example http://127.0.0.1:11400/v1")
        return url


class ParameterSettings(Settings):
    """What values a parameter may have that the gateway does not know of itself; it is passed on as it is.

    `low` and `high` bound numbers, both included; `longest` bounds texts, in characters; `words` are all that `one_of`
    takes; `object` is bounded by the body alone.
    """

    kind: Literal["boolean", "integer", "number", "text", "one_of", "object"]
    low: float = -(2.0**31)
    high: float = 2.0**31 - 1
    longest: Annotated[int, Field(ge=1, le=2**20)] = 1024
    words: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()

    @model_validator(mode="after")
    def _takes_something(self) -> Self:
        if self.low > self.high:
            raise ValueError("no number lies between low and high: low is the larger")
        if (self.kind == "one_of") is not bool(self.words):
            raise ValueError("words belong to the kind one_of, which needs them")
        return self


Route = Literal["chat", "completions", "embeddings"]
# What the gateway itself reads or writes of a request.
_ITS_OWN = frozenset({"cache_salt", "input", "messages", "model", "prompt", "stream", "stream_options"})


class UpstreamSettings(Settings):
    """A model's servers: one by its `base_url`, or several as `backends`; what they serve and take.

    `parameters` are those that its requests may carry beside the ones that the gateway knows, or with another range.
    With `cache_salt` each tenant's requests carry a salt of their own, so that vLLM's prefix cache does not tell one
    tenant by its speed what another asked; a server that refuses unknown parameters needs it off.
    """

    base_url: HttpUrl | None = None
    api_key: Secret | None = None
    max_in_flight: _Positive | None = None
    cache_salt: bool = True
    backends: tuple[BackendSettings, ...] = ()
    routes: Annotated[frozenset[Route], Field(min_length=1)] = frozenset({"chat", "completions"})
    parameters: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")], ParameterSettings] = Field(
        default_factory=dict
    )

    @field_validator("parameters")
    @classmethod
    def _not_its_own(cls, named: dict[str, ParameterSettings]) -> dict[str, ParameterSettings]:
        taken = sorted(_ITS_OWN & named.keys())
        if taken:
            raise ValueError(f"the gateway itself sees to {', '.join(taken)}")
        return named

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.backends) is (self.base_url is not None):
            raise ValueError("give base_url, or backends with a base_url each")
        if self.backends and (self.api_key is not None or self.max_in_flight is not None):
            raise ValueError("with backends, api_key and max_in_flight belong to each of them")
        self._alone()
        return self

    @property
    def servers(self) -> tuple[BackendSettings, ...]:
        """The servers, whichever way they were given."""
        return self.backends or self._alone()

    def _alone(self) -> tuple[BackendSettings, ...]:
        if self.base_url is None:
            return ()
        return (BackendSettings(base_url=self.base_url, api_key=self.api_key, max_in_flight=self.max_in_flight),)


class RoutingSettings(Settings):
    """How requests find a server of their model, and when a server is kept from them.

    A breaker opens for `breaker_open_s` when `breaker_failures` of the last `breaker_of` answers failed, and lets
    `breaker_trials` at once find out whether the server is back. A server with open streams that sends nothing for
    `stalled_s` is out as well, one that only answers whole requests after `whole_stalled_s`. Its /health is asked every
    `probe_s`. `retry_share` of the requests may be sent a second time. When all servers of a model are full, `line`
    requests wait for `line_s`. Of the gateway's places one model takes `model_share`, where there are several models.
    `session_header` names a header whose value keeps requests on one server.
    """

    affinity_bound: Annotated[float, Field(ge=1, le=100)] = 1.25
    session_header: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] | None = None
    breaker_failures: Annotated[int, Field(ge=1, le=64)] = 5
    breaker_of: Annotated[int, Field(ge=1, le=64)] = 20
    breaker_open_s: _Seconds = 1.0
    breaker_trials: _Positive = 2
    stalled_s: _Seconds = 30.0
    whole_stalled_s: _Seconds = 120.0
    probe_s: _Seconds = 1.0
    bad_probes: _Positive = 2
    ask_s: _Seconds = 1.0
    longest_rest_s: _Seconds = 5.0
    retry_share: Annotated[float, Field(ge=0, le=0.1)] = 0.1
    line: Annotated[int, Field(ge=0)] = 256
    line_s: _Seconds = 10.0
    model_share: Annotated[float, Field(gt=0, le=1)] = 0.75

    @model_validator(mode="after")
    def _breaker_can_open(self) -> Self:
        if self.breaker_failures > self.breaker_of:
            raise ValueError("breaker_failures of the last breaker_of: the first cannot be the larger")
        return self
