"""Searches of documents through a gateway: how a stack is asked for them, and what each such gateway keeps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from hxp_harness.target import Target
from reference_stack.schemas.api.retrieval import SearchPage

STORE = "handbook"
TENANT = "local"  # of the key that a stack makes
PATH = f"/vector_stores/{STORE}/search"
_VARIABLE = "HXP_STACK_API_GATEWAY__RETRIEVAL"


@contextmanager
def searched() -> Iterator[None]:
    """Let every gateway that is started meanwhile search documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_VARIABLE, f"{{stores: [{STORE}]}}")
        yield


def search(door: Target, body: object, *, key: str | None = None, store: str = STORE) -> httpx.Response:
    """Search as a client of the gateway."""
    headers = {"Authorization": f"Bearer {door.api_key if key is None else key}"}
    url = f"{door.base_url}/vector_stores/{store}/search"
    return httpx.post(url, json=body, headers=headers, timeout=20, trust_env=False)


def found(door: Target, query: str, **more: object) -> list[tuple[str, str]]:
    """Return the documents that a search finds, each with its passage."""
    answer = search(door, {"query": query, **more})
    assert answer.status_code == 200, answer.text
    page = SearchPage.model_validate_json(answer.content)
    assert page.search_query == (query,)
    return [(row.file_id, row.content[0].text) for row in page.data]


def check_refusals(door: Target) -> None:
    """What may not be searched, or is no search, is refused in OpenAI's shape."""
    wanted = {"query": "canteen"}
    for answer, status, code in (
        (search(door, wanted, key="sk-nobody"), 401, "invalid_api_key"),
        (search(door, wanted, store="unknown"), 404, "vector_store_not_found"),
        (search(door, {}), 400, "missing_required_parameter"),
        (search(door, {**wanted, "tenant": "other"}), 400, "unknown_parameter"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def documents(settings: str, action: str, *names: str, tenant: str = TENANT) -> str:
    """Run `hxp-stack documents` for the gateway with these settings; return what it printed."""
    argv = [sys.executable, "-m", "reference_stack", "documents", action, STORE, *names, "--tenant", tenant]
    done = subprocess.run([*argv, "--settings", settings], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bring_in(settings: str, folder: Path) -> None:
    """Put one document of the key's tenant into the store, and one of somebody else's."""
    for tenant, text in ((TENANT, "The canteen opens at noon."), ("other", "The canteen of others opens at one.")):
        file = folder / f"{tenant}.md"
        file.write_text(text, encoding="utf-8")
        documents(settings, "add", str(file), tenant=tenant)
