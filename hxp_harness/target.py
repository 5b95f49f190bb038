"""What is judged: a base URL, a model name and a key; and how a stack of our own starting says them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hxp_harness.errors import UsageError


class Evidence(enum.StrEnum):
    """What a verdict can stand for. Only `measured` says anything about hardware."""

    MEASURED = "measured"
    TINY = "tiny"  # a real engine with a toy model
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI-compatible server.

    `base_url` ends in /v1. `metrics_url` is a Prometheus page or empty. `api_key` is never logged or recorded.
    """

    base_url: str
    api_model: str
    api_key: str = field(default="", repr=False)
    metrics_url: str = ""
    tag_keys: dict[str, str] = field(default_factory=dict)  # of a tag: the variable, or @ and the file, with its key
    evidence: Evidence = Evidence.MEASURED
    engine: str = "unknown"  # sim, vllm or unknown
    facts: dict[str, str] = field(default_factory=dict)  # version, device, flags: what the stack says of itself

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.base_url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def tls(self) -> bool:
        return urlsplit(self.base_url).scheme == "https"


def check_base_url(text: str) -> str:
    """Return `text` without a trailing slash if it is an http(s) URL that ends in /v1; raise UsageError if not."""
    url = text.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{text!r} is not an http(s) URL", hint="for example --target http://127.0.0.1:8000/v1")
    if not parts.path.endswith("/v1"):
        raise UsageError(f"{text!r} does not end in /v1", hint=f"try --target {url}/v1")
    return url
