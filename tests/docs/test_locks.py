"""What the locks may hold: pinned, hashed, from no named host, and nothing that is known to be unsafe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

LOCKS = Path(__file__).parents[2] / "locks"
TABLE: dict[str, dict[str, Any]] = yaml.safe_load((LOCKS / "lowest-safe.yaml").read_text(encoding="utf-8"))
FILES = sorted(file for file in LOCKS.glob("*.txt") if not file.stem.endswith(("-in", "-overrides")))
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def pins(text: str) -> Iterator[tuple[str, Version, str]]:
    """Yield each pinned package of a lock: name, version, and the rest of its entry."""
    for name, version, rest in _PIN.findall(text):
        yield name.lower(), Version(version), rest


def unsafe(name: str, version: Version) -> str:
    """Return the advisory that speaks against a version, or nothing."""
    row = TABLE.get(name, {})
    low = "lowest" in row and version < Version(str(row["lowest"]))
    never = any(version == Version(str(bad)) for bad in row.get("never", ()))
    return str(row["advisory"]) if low or never else ""


@pytest.mark.owasp("LLM03:2025")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_known_to_be_unsafe_is_locked(file: Path) -> None:
    """No pin of any lock is below the lowest safe version, or one of those that must never be installed."""
    found = {name: said for name, version, _ in pins(file.read_text()) if (said := unsafe(name, version))}

    assert found == {}


@pytest.mark.owasp("LLM03:2025")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_pin_has_a_hash_and_no_host_is_named(file: Path) -> None:
    """What is installed is what was locked, from wherever the machine's own settings say."""
    text = file.read_text()
    rows = list(pins(text))

    assert rows
    assert [name for name, _, rest in rows if "--hash=sha256:" not in rest] == []
    assert re.findall(r"https?://|--(?:extra-)?index-url|--find-links", text) == []


def test_every_row_of_the_table_is_of_use() -> None:
    """Each package of the table is in some lock, so that the table does not outlive its reason."""
    locked = {name for file in FILES for name, _, _ in pins(file.read_text())}

    assert TABLE.keys() - locked == set()


@pytest.mark.parametrize(
    ("name", "version", "is_unsafe"),
    [
        ("starlette", "1.0.0", True),
        ("starlette", "1.0.1", False),
        ("litellm", "1.82.8", True),
        ("litellm", "1.82.9", False),
        ("pyyaml", "5.3.1", True),
        ("not-in-the-table", "0.0.1", False),
    ],
)
def test_versions_are_compared_as_versions(name: str, version: str, *, is_unsafe: bool) -> None:
    """A version below the lowest and one that is listed are unsafe; the lowest itself is not."""
    assert bool(unsafe(name, Version(version))) is is_unsafe
