"""The HTTP API of Prometheus, typed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reference_stack.schemas.configuration.metrics import MetricsSettings
from reference_stack.services.integration.metrics.port import Firing, QueryRefused, ScrapeTarget, Series, Unavailable


class _Said(BaseModel):
    # Prometheus adds fields between versions; those that we read are checked.
    model_config = ConfigDict(extra="ignore", frozen=True)


class _VectorRow(_Said):
    metric: dict[str, str]
    value: tuple[float, float]


class _MatrixRow(_Said):
    metric: dict[str, str]
    values: tuple[tuple[float, float], ...]


class _Vector(_Said):
    kind: Literal["vector"] = Field(alias="resultType")
    result: tuple[_VectorRow, ...]

    def series(self) -> list[Series]:
        return [Series(row.metric, (row.value,)) for row in self.result]


class _Scalar(_Said):
    kind: Literal["scalar"] = Field(alias="resultType")
    result: tuple[float, float]

    def series(self) -> list[Series]:
        return [Series({}, (self.result,))]


class _Matrix(_Said):
    kind: Literal["matrix"] = Field(alias="resultType")
    result: tuple[_MatrixRow, ...]

    def series(self) -> list[Series]:
        return [Series(row.metric, row.values) for row in self.result]


class _Target(_Said):
    labels: dict[str, str]
    url: str = Field(alias="scrapeUrl")
    health: str
    error: str = Field(default="", alias="lastError")


class _Targets(_Said):
    active: tuple[_Target, ...] = Field(alias="activeTargets")


class _Alert(_Said):
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: str
    since: datetime = Field(alias="activeAt")


class _Alerts(_Said):
    alerts: tuple[_Alert, ...]


_RESULT: TypeAdapter[_Vector | _Scalar | _Matrix] = TypeAdapter(
    Annotated[_Vector | _Scalar | _Matrix, Field(discriminator="kind")]
)


class PrometheusMetrics:
    """See port.Metrics."""

    def __init__(self, settings: MetricsSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # trust_env: a proxy of the environment is for the internet, and Prometheus is a neighbour.
        self._client = httpx.AsyncClient(
            base_url=settings.prometheus_url, timeout=settings.timeout_s, transport=transport, trust_env=False
        )

    async def query(self, expression: str) -> list[Series]:
        return await self._series("/api/v1/query", {"query": expression})

    async def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        parameters = {"query": expression, "start": str(start_s), "end": str(end_s), "step": str(step_s)}
        return await self._series("/api/v1/query_range", parameters)

    async def targets(self) -> list[ScrapeTarget]:
        said = await self._ask("/api/v1/targets", {"state": "active"})
        try:
            active = _Targets.model_validate(said).active
        except ValidationError as error:
            raise _not_prometheus() from error
        rows = [ScrapeTarget(row.labels.get("job", ""), row.url, row.health == "up", row.error) for row in active]
        return sorted(rows, key=lambda row: (row.job, row.url))

    async def alerts(self) -> list[Firing]:
        said = await self._ask("/api/v1/alerts", {})
        try:
            rows = _Alerts.model_validate(said).alerts
        except ValidationError as error:
            raise _not_prometheus() from error
        found = [
            Firing(
                row.labels.get("alertname", ""),
                {key: value for key, value in row.labels.items() if key != "alertname"},
                row.annotations.get("summary", ""),
                row.since.timestamp(),
                row.state == "firing",
            )
            for row in rows
        ]
        return sorted(found, key=lambda row: (row.name, sorted(row.labels.items())))

    async def ping(self) -> str:
        try:
            await self.query("1")
        except (Unavailable, QueryRefused) as error:
            return error.message
        return ""

    async def close(self) -> None:
        await self._client.aclose()

    async def _series(self, path: str, parameters: dict[str, str]) -> list[Series]:
        said = await self._ask(path, parameters)
        try:
            return _RESULT.validate_python(said).series()
        except ValidationError as error:
            raise _not_prometheus() from error

    async def _ask(self, path: str, parameters: dict[str, str]) -> Any:
        try:
            # A POST: an expression may be longer than a URL.
            method = "GET" if path.endswith(("targets", "alerts")) else "POST"
            body = {"params": parameters} if method == "GET" else {"data": parameters}
            answer = await self._client.request(method, path, **body)  # type: ignore[arg-type]  # one of two shapes
            said = answer.json()
        except httpx.TimeoutException:
            raise Unavailable("Prometheus did not answer in time") from None
        # AttributeError is how httpx's transport says that a connection was reset as it was made.
        except (httpx.HTTPError, AttributeError) as error:
            raise Unavailable(f"Prometheus cannot be asked: {type(error).__name__}") from error
        except ValueError as error:
            raise _not_prometheus() from error
        if not isinstance(said, dict) or said.get("status") not in {"success", "error"}:
            raise _not_prometheus()
        if said["status"] == "error":
            wrong = said.get("errorType") == "bad_data"
            message = f"Prometheus refuses the query: {str(said.get('error', ''))[:300]}"
            raise QueryRefused(message) if wrong else Unavailable(message)
        return said.get("data")


def _not_prometheus() -> Unavailable:
    return Unavailable("what answers there is not Prometheus")
