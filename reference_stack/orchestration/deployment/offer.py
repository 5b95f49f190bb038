"""What a service of a running stack is called by: the row that the harness reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Offer:
    """URLs of one service. Models and the gateway also have what a client of OpenAI's API needs, and `evidence`."""

    health_url: str
    metrics_url: str
    url: str = ""  # the server behind an integration service
    grpc_port: int = 0  # of that server, where it speaks gRPC too
    base_url: str = ""
    api_model: str = ""
    api_key: str = field(default="", repr=False)
    engine: str = ""
    evidence: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    feasibility: Mapping[str, str] = field(
        default_factory=dict
    )  # verdict, sentence, rate_rps: the stack's own prediction

    def row(self, pid: int, limits: str = "", settings: Path | None = None) -> dict[str, object]:
        """Return the offer as JSON has it, what does not apply left out.

        Added are `pid`, in words its `limits`, and the file with the `settings` that it was started with.
        """
        row: dict[str, object] = {"health_url": self.health_url, "metrics_url": self.metrics_url, "pid": pid}
        if self.url:
            row["url"] = self.url
        if self.grpc_port:
            row["grpc_port"] = self.grpc_port
        if limits:
            row["limits"] = limits
        if settings is not None:
            row["settings_file"] = str(settings)
        if self.base_url:
            row |= {
                "base_url": self.base_url,
                "api_model": self.api_model,
                "api_key": self.api_key,
                "engine": self.engine,
                "evidence": self.evidence,
                "facts": {**self.facts, "limits": limits} if limits else dict(self.facts),
            }
        if self.feasibility:
            row["feasibility"] = dict(self.feasibility)
        return row
