"""Finds the environments: files that say what every service is set to in one place."""

from __future__ import annotations

from pathlib import Path

from reference_stack.errors import SettingsError, nearest

_BESIDE = Path(__file__).parents[3]


def known_environments() -> dict[str, Path]:
    """Return the files by name: those of ./profiles/environments first, then those that came with this package."""
    found: dict[str, Path] = {}
    for folder in (Path("profiles"), _BESIDE / "profiles", _BESIDE / "hxp_harness" / "profiles"):
        for file in sorted((folder / "environments").glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


def find_environment(text: str) -> Path:
    """Return the file that `text`, a name or a path, means. Raises SettingsError with the nearest right spelling."""
    if "/" in text or text.endswith((".yaml", ".yml")):
        return Path(text)
    known = known_environments()
    if text not in known:
        raise SettingsError(f"no environment {text!r}", hint=nearest(text, known))
    return known[text]
