"""Which of several servers takes a request, and which requests belong together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_stack.services.infrastructure.api_gateway.routing.affinity import affinity_of
from reference_stack.services.infrastructure.api_gateway.routing.choice import bounded, least_loaded, seed_of


@dataclass
class Loaded:
    name: str
    in_flight: int = 0
    weight: float = 1.0
    turn: int = 0
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        self.seed = seed_of(self.name)


LOADS = st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0.5, 1.0, 2.0, 3.0])), min_size=1, max_size=8)
KEYS = st.integers(1, 2**64 - 1)


def servers(loads: list[tuple[int, float]]) -> list[Loaded]:
    return [Loaded(f"10.0.0.{number}:8000", *load) for number, load in enumerate(loads)]


def test_the_least_loaded_for_its_weight_takes_it() -> None:
    """A server of twice the weight takes twice as many, and equals take turns."""
    light, heavy = Loaded("a"), Loaded("b", weight=2.0)
    for number in range(30):
        chosen = least_loaded([light, heavy])
        chosen.in_flight += 1
        chosen.turn = number
    assert (light.in_flight, heavy.in_flight) == (10, 20)

    idle = [Loaded("a", turn=7), Loaded("b", turn=3)]
    assert least_loaded(idle).name == "b"


@given(LOADS, KEYS, st.sampled_from([1.0, 1.25, 2.0]))
def test_no_server_is_loaded_beyond_its_bound(loads: list[tuple[int, float]], key: int, bound: float) -> None:
    """Whatever the loads and the key, the chosen server stays below `bound` times its share, rounded up."""
    found = servers(loads)
    chosen = bounded(found, key, bound)
    share = bound * (sum(each.in_flight for each in found) + 1) * chosen.weight / sum(each.weight for each in found)
    assert chosen.in_flight < share + 1


@given(KEYS)
def test_a_key_stays_where_it_was_when_another_server_leaves(key: int) -> None:
    """Only the keys of a server that leaves move: rendezvous hashing."""
    found = servers([(0, 1.0)] * 5)
    home = bounded(found, key, 1.25)
    for gone in found:
        if gone is not home:
            assert bounded([each for each in found if each is not gone], key, 1.25) is home


def test_keys_spread_by_weight() -> None:
    """Over many keys each server has its share."""
    found = servers([(0, 1.0), (0, 1.0), (0, 2.0)])
    homes = Counter(bounded(found, seed_of(str(number)), 100.0).name for number in range(4000))
    assert [homes[each.name] for each in found] == pytest.approx([1000, 1000, 2000], rel=0.1)


def test_a_hot_key_spills_over_and_returns() -> None:
    """One prefix that everybody sends fills its home to the bound and then the next, and no server stays idle."""
    found = servers([(0, 1.0)] * 4)
    home = bounded(found, 99, 1.25)
    for _ in range(400):
        bounded(found, 99, 1.25).in_flight += 1
    assert all(0 < each.in_flight <= 126 for each in found)
    assert home.in_flight == max(each.in_flight for each in found)
    for each in found:
        each.in_flight = 0
    assert bounded(found, 99, 1.25) is home


def chat(*said: tuple[str, object], **more: object) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in said], **more}


SYSTEM = ("system", "You are terse.")
FIRST = ("user", "What is a lease?")
LATER = (("assistant", "A place."), ("user", "And then?"))


def test_a_conversation_stays_together_while_it_grows() -> None:
    """Later turns and other parameters do not change where it belongs; its opening does."""
    key = affinity_of(chat(SYSTEM, FIRST), "red")

    assert affinity_of(chat(SYSTEM, FIRST, *LATER, temperature=1), "red") == key
    assert affinity_of(chat(SYSTEM, ("user", "Something else")), "red") != key
    assert affinity_of(chat(("developer", "You are terse."), FIRST), "red") == key
    assert affinity_of(chat(("user", [{"type": "text", "text": "x"}])), "") != affinity_of(chat(("user", "x")), "")


def test_a_session_decides_where_given() -> None:
    """The session, or else the user, binds requests that have nothing else in common."""
    assert affinity_of(chat(FIRST), "", "s1") == affinity_of({"prompt": "other"}, "", "s1")
    assert affinity_of(chat(FIRST, user="u"), "") == affinity_of({"prompt": "other", "user": "u"}, "")
    assert affinity_of(chat(FIRST), "", "s1") != affinity_of(chat(FIRST), "", "s2")


def test_tenants_are_kept_apart() -> None:
    """The same prompt of two tenants may live on two servers: they share no cache."""
    assert affinity_of(chat(FIRST), "red") != affinity_of(chat(FIRST), "blue")


def test_only_the_beginning_of_a_prompt_counts() -> None:
    """Prompts that share their first KiB belong together; token lists have a beginning too."""
    assert affinity_of({"prompt": "a" * 2000}, "") == affinity_of({"prompt": "a" * 1024 + "b"}, "")
    assert affinity_of({"prompt": "b" + "a" * 2000}, "") != affinity_of({"prompt": "a" * 2000}, "")
    assert affinity_of({"prompt": [1, 2, 3]}, "") != affinity_of({"prompt": [1, 2, 4]}, "")


@given(
    st.dictionaries(
        st.sampled_from(["messages", "prompt", "user", "input"]),
        st.recursive(
            st.none() | st.integers() | st.sampled_from(["", "x", "system", "\ud800é"]),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["role", "content"]), inner),
        ),
    )
)
def test_no_body_is_too_strange_for_it(request: dict[str, object]) -> None:
    """Whatever a request holds, it belongs somewhere: 64 bits, the same each time."""
    assert 0 <= affinity_of(request, "t") == affinity_of(request, "t") < 2**64
