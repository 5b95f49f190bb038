"""The template of a new service is one: it works as it stands in the page."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

_BLOCK = re.compile(r"^```python template=(?P<name>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTINGS = "reference_stack.schemas.configuration.notes"


@pytest.fixture
def template(root: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Return the application's module of the page, made where the page says that the files go."""
    text = (root / "docs" / "how-to" / "add-a-service.md").read_text(encoding="utf-8")
    codes = {match["name"]: match["code"] for match in _BLOCK.finditer(text)}
    settings, application = types.ModuleType(_SETTINGS), types.ModuleType("notes")
    exec(compile(codes["settings"], "settings", "exec"), settings.__dict__)
    monkeypatch.setitem(sys.modules, _SETTINGS, settings)
    exec(compile(codes["application"], "application", "exec"), application.__dict__)
    return application


async def test_it_serves(template: types.ModuleType) -> None:
    """A service made from the template answers, is healthy and counts."""
    app = template.create_app(template.NotesSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://notes") as client:
        taken = await client.post("/v1/notes", params={"text": "hello"})
        health = await client.get("/health")
        metrics = await client.get("/metrics")

    assert taken.json() == {"kept": 1}
    assert health.json() == {"service": "notes", "status": "ready", "dependencies": {}}
    assert "hxp_notes_taken_total 1.0" in metrics.text


def test_its_settings_are_strict(template: types.ModuleType) -> None:
    """A service made from the template refuses a setting that it does not know."""
    with pytest.raises(ValidationError, match="no_such_setting"):
        template.NotesSettings.model_validate({"no_such_setting": 1})
