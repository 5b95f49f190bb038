"""`hxp-stack documents`: what a person types, what it says, and what is in the store then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reference_stack.__main__ import main
from tests.reference_stack.vector_store import VectorStore

Type = Callable[..., tuple[int, str]]
STORE = "manuals"


@pytest.fixture
def documents(real_vectors: VectorStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Type:
    """Types `hxp-stack documents` of a gateway that searches a real store, for one tenant."""
    said = real_vectors.settings
    file = tmp_path / "api_gateway.json"
    where = {"stores": [STORE], "port": said.port, "grpc_port": said.grpc_port}
    file.write_text(json.dumps({"retrieval": where}))

    def ask(action: str, *words: str, store: str = STORE, tenant: str = "red") -> tuple[int, str]:
        code = main(["documents", action, store, *words, "--tenant", tenant, "--settings", str(file)])
        told = capsys.readouterr()
        return code, told.out + told.err

    return ask


def written(folder: Path, name: str, text: str | bytes) -> str:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


def test_what_is_added_is_listed_until_it_is_removed(documents: Type, tmp_path: Path) -> None:
    """Documents are called as their files, belong to their tenant, and carry what they were given."""
    one, two = written(tmp_path, "one.md", "first"), written(tmp_path, "two.md", "word " * 400)

    added = documents("add", one, two, "--attribute", "lang=en", "--attribute", "year=2026", "--attribute", "old=false")
    assert added == (0, "one.md: 1 passages\ntwo.md: 3 passages\n")

    code, told = documents("list", "--json")
    rows = {row["id"]: row for row in map(json.loads, told.splitlines())}
    assert (code, set(rows)) == (0, {"one.md", "two.md"})
    assert rows["two.md"]["passages"] == 3
    assert rows["two.md"]["attributes"] == {"lang": "en", "year": 2026, "old": False}
    assert documents("list", tenant="blue") == (0, "")

    assert documents("remove", "two.md") == (0, "two.md: removed\n")
    assert documents("list") == (0, "one.md  1 passages  lang=en old=False year=2026\n")
    assert documents("remove", "one.md", "--json") == (0, '{"id": "one.md", "removed": true}\n')


def test_a_document_that_is_not_there_is_said(documents: Type) -> None:
    """Removing what this tenant does not have names it, and how to see what there is."""
    code, told = documents("remove", "none.md")

    assert code == 2
    assert "no document 'none.md' of tenant 'red'" in told
    assert "hxp-stack documents list manuals --tenant red" in told


@pytest.mark.parametrize(
    ("names", "words", "expected"),
    [
        ((), (), "add needs files"),
        (("absent.md",), (), "absent.md cannot be read: No such file"),
        (("binary.md",), (), "is no text in UTF-8"),
        (("blank.md",), (), "is empty"),
        (("good.md", "other/good.md"), (), "two files are called 'good.md'"),
        (("good.md",), ("--attribute", "lang"), "is not KEY=VALUE"),
        (("good.md",), ("--attribute", "a.b=1"), "--attribute a.b"),
        (("good.md",), [part for n in range(17) for part in ("--attribute", f"a{n}=1")], "at most 16 attributes"),
    ],
)
def test_what_is_wrong_changes_nothing(
    documents: Type, tmp_path: Path, names: tuple[str, ...], words: tuple[str, ...], expected: str
) -> None:
    """A mistake is said in one sentence with what to type, exit 2, and nothing was brought in."""
    for name, text in (("good.md", "text"), ("other/good.md", "text"), ("binary.md", b"\xff\xfe"), ("blank.md", " \n")):
        written((tmp_path / name).parent, Path(name).name, text)

    code, told = documents("add", *(str(tmp_path / name) for name in names), *words)

    assert (code, expected in told) == (2, True), told
    assert documents("list") == (0, "")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "this gateway searches no documents"),
        ({"retrieval": {"stores": [STORE], "backend": "mock"}}, "a mocked store is in the gateway's own memory"),
        ({"retrieval": {"stores": ["manual"]}}, "did you mean 'manual'?"),
    ],
)
def test_a_gateway_without_the_store_is_said(
    settings: object, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gateway that cannot search it is named, with the nearest right spelling or what to set."""
    file = tmp_path / "api_gateway.json"
    file.write_text(json.dumps(settings))

    assert main(["documents", "list", STORE, "--tenant", "red", "--settings", str(file)]) == 2
    assert expected in capsys.readouterr().err


def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no stack keeps its files, the next thing to type is named."""
    assert main(["documents", "list", STORE, "--tenant", "red", "--folder", str(tmp_path)]) == 2
    assert "hxp-stack up starts one" in capsys.readouterr().err


def test_a_store_that_is_out_is_exit_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that cannot be asked is said so, and is no mistake of the person."""
    file = tmp_path / "api_gateway.json"
    file.write_text(json.dumps({"retrieval": {"stores": [STORE], "port": 1, "grpc_port": 2}}))

    assert main(["documents", "list", STORE, "--tenant", "red", "--settings", str(file)]) == 5
    assert "cannot be asked" in capsys.readouterr().err
