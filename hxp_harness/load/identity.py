"""What a target says it is, beside its answers: the pages that vLLM and its kin have for that."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

import httpx

from hxp_harness.target import Target

TIMEOUT_S = 5.0
_LONGEST = 200  # characters of one fact: the target is a stranger


def identity(target: Target) -> dict[str, str]:
    """Return version, model path and context length as far as the target tells; nothing is raised for what it lacks."""
    parts = urlsplit(target.base_url)
    root = urlunsplit(parts._replace(path=parts.path.removesuffix("/v1")))
    headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    with httpx.Client(timeout=TIMEOUT_S, headers=headers, trust_env=False) as client:
        version = _page(client, f"{root}/version")
        listed = _page(client, f"{target.base_url}/models").get("data")
    models = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    own: Mapping[str, object] = next((row for row in models if row.get("id") == target.api_model), {})
    told = {"version": version.get("version"), "model_path": own.get("root"), "context": own.get("max_model_len")}
    return {name: str(value)[:_LONGEST] for name, value in told.items() if isinstance(value, str | int)}


def _page(client: httpx.Client, url: str) -> Mapping[str, object]:
    try:
        reply = client.get(url)
        said = reply.json() if reply.status_code == 200 and len(reply.content) < 2**20 else None
    except (httpx.HTTPError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
