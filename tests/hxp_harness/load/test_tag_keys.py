"""Requests of one tenant carry that tenant's key, and the key stands in no file of the run."""

from dataclasses import replace
from pathlib import Path

import pytest

from hxp_harness.errors import UsageError
from hxp_harness.load.request import Renderer
from hxp_harness.load.session import LoadSession
from hxp_harness.load.tag_keys import parse, read, refuse_unknown
from tests.hxp_harness.load.conftest import ServerFactory, answering, dues, events, plan_for, stream
from tests.hxp_harness.load.test_session import drain


def test_a_key_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    """A reference is a variable's name, or @ and a file; white space around a file's key is not part of it."""
    (tmp_path / "key").write_text("of-silver\n", encoding="utf-8")
    references = parse(["gold=GOLD_KEY", f"silver=@{tmp_path / 'key'}"])

    assert read(references, {"GOLD_KEY": "of-gold"}) == {"gold": "of-gold", "silver": "of-silver"}


@pytest.mark.parametrize("pairs", [["gold"], ["=KEY"], ["gold="], ["gold=@"], ["gold=A", "gold=B"]])
def test_what_is_no_pair_is_refused(pairs: list[str]) -> None:
    """A pair without tag or reference, and a tag named twice, are refused by name."""
    with pytest.raises(UsageError, match=f"--tag-key {pairs[-1]}"):
        parse(pairs)


@pytest.mark.parametrize("key", ["", "two words", "\n"])
def test_a_key_that_no_header_carries_is_refused_and_not_shown(key: str) -> None:
    """The message names tag and variable, never what it holds."""
    with pytest.raises(UsageError, match="--tag-key gold: what KEY holds is empty") as refused:
        read({"gold": "KEY"}, {"KEY": key})

    assert "two words" not in str(refused.value)


@pytest.mark.parametrize(("reference", "why"), [("NOWHERE", "no NOWHERE"), ("@/no/such/file", "cannot read")])
def test_a_key_that_is_not_there_is_refused(reference: str, why: str) -> None:
    """A variable or file that is missing stops the run before it starts."""
    with pytest.raises(UsageError, match=why):
        read({"gold": reference}, {})


def test_a_tag_that_no_request_has_is_refused() -> None:
    """A misspelt tag would send every request with the wrong key, so the nearest right one is named."""
    refuse_unknown({"gold": "KEY"}, ["", "gold", "silver"])
    with pytest.raises(UsageError, match="no request of the contract has the tag glod") as refused:
        refuse_unknown({"glod": "KEY"}, ["", "gold", "silver"])
    assert "did you mean 'gold'?" in str(refused.value.hint)
    with pytest.raises(UsageError) as refused:
        refuse_unknown({"gold": "KEY"}, [""])
    assert refused.value.hint == "its requests have no tags"


def test_only_its_tag_has_the_key() -> None:
    """Requests of another tag, or of none, carry the key of the target."""
    renderer = Renderer(plan_for("http://h/v1"), "of-all", "run", {"gold": "of-gold"})
    sent = [renderer.request(replace(dues(1)[0], tag=tag)) for tag in ("gold", "silver", "")]

    assert [b"Bearer of-gold" in request for request in sent] == [True, False, False]
    assert [b"Bearer of-all" in request for request in sent] == [False, True, True]


def test_a_tenant_is_sent_with_its_key(tmp_path: Path, serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the load processes each request comes with the key of its tag, and no file of the load holds one."""
    monkeypatch.setenv("GOLD_KEY", "of-gold")
    server = serve(answering(stream(events(2))))
    plan = replace(plan_for(server.base_url), tag_keys={"gold": "GOLD_KEY"})
    schedule = [replace(due, tag="gold" if due.index % 2 else "") for due in dues(10, gap_s=0.02)]

    with LoadSession(tmp_path / "load", plan, schedule, api_key="of-all") as session:  # pragma: allowlist secret
        traces = drain(session)

    assert all(trace.ok for trace in traces), traces
    keys = [request.headers["authorization"] for request in server.requests]
    assert (keys.count("Bearer of-gold"), keys.count("Bearer of-all")) == (5, 5)
    assert not [file for file in (tmp_path / "load").iterdir() if b"of-gold" in file.read_bytes()]
