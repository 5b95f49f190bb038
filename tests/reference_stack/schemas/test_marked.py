"""YAML with the lines of its keys."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.schemas.configuration.marked import NotYaml, read_marked

_KEYS = st.text("abcdefgh", min_size=1, max_size=4)
_TREES = st.recursive(
    st.integers() | st.booleans() | st.text("xyz ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _TREES, min_size=1, max_size=4))
def test_every_key_is_on_its_line(tree: dict[str, object]) -> None:
    """The tree is what any reader sees, and the line of each top key is the line on which it stands."""
    text = yaml.safe_dump(tree, default_flow_style=False)

    marked = read_marked(text)

    assert marked.tree == tree
    lines = text.splitlines()
    for key in tree:
        assert lines[marked.lines[key] - 1].startswith(f"{key}:")


@pytest.mark.parametrize(
    ("text", "match", "line"),
    [
        ("a: 1\nb: [", "expected the node content", 2),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "'c' stands twice", 4),
        ("a: !!python/name:os.system", "could not determine a constructor", 1),
        ("a: \x01", "special characters", None),
        ("a: 2026-13-45", "month must be in", None),
        ("a: 1\n---\nb: 2", "but found another document", 2),
        ("{" * 2_000, "recursion", None),
    ],
)
def test_what_is_no_yaml_says_where(text: str, match: str, line: int | None) -> None:
    """An error has the line, where there is one."""
    with pytest.raises(NotYaml, match=match) as refused:
        read_marked(text)

    assert refused.value.line == line
