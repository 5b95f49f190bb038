"""Pages lead somewhere: their links, their profiles, the addresses that they name."""

from __future__ import annotations

import re
from pathlib import Path

from hxp_harness.profile import read_profile

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_PROFILE = re.compile(r"^```yaml profile\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_PRODUCTION = re.compile(r"192\.168\.\d")


def _anchors(text: str) -> set[str]:
    headings = (match["text"].lower() for match in _HEADING.finditer(text))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def test_every_relative_link_resolves(pages: dict[Path, str]) -> None:
    """A link to another file, or to a heading in it, leads there."""
    followed, broken = 0, []
    for page, text in pages.items():
        for match in _LINK.finditer(_FENCE.sub("", text)):
            if "://" in match["target"] or match["target"].startswith("mailto:"):
                continue
            path, _, anchor = match["target"].partition("#")
            target = (page.parent / path).resolve() if path else page
            followed += 1
            if not target.exists() or (anchor and anchor not in _anchors(target.read_text(encoding="utf-8"))):
                broken.append(f"{page.name}: {match['target']}")

    assert followed > 50
    assert broken == []


def test_every_profile_in_the_pages_is_one(pages: dict[Path, str], tmp_path: Path) -> None:
    """An example of a profile can be copied from a page and used."""
    found = [match["text"] for text in pages.values() for match in _PROFILE.finditer(text)]

    assert len(found) >= 4
    for number, text in enumerate(found):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text, encoding="utf-8")
        assert read_profile(file).gates


def test_every_page_is_in_the_contents(root: Path, pages: dict[Path, str]) -> None:
    """A page can be reached from the index of its folder."""
    for page in pages:
        if page.is_relative_to(root / "docs") and page.name != "index.md":
            contents = pages[page.parent / "index.md"]
            assert re.search(rf"^{re.escape(page.stem)}$", contents, re.MULTILINE), page


def test_no_page_names_a_production_address(pages: dict[Path, str]) -> None:
    """An example that is copied from a page never dials a production host."""
    assert [page.name for page, text in pages.items() if _PRODUCTION.search(text)] == []


def test_a_decision_is_short_and_whole(root: Path) -> None:
    """Each decision has its context, the decision and the consequences, in at most 40 lines."""
    decisions = sorted((root / "docs" / "explanation" / "adr").glob("0*.md"))

    assert len(decisions) >= 8
    for file in decisions:
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 40, file.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], file.name


def test_the_plan_of_the_house_fits_two_screens(root: Path) -> None:
    """ARCHITECTURE.md stays short enough to be read: at most 60 lines."""
    assert len((root / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 60
