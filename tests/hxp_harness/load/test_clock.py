"""What one host knows of another's clock: never surer than it may be."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hxp_harness.load.clock import SAME, Exchange, Offset, best, clock_name, over_run

delays_ns = st.integers(0, 50_000_000)
offsets_ns = st.integers(-(10**15), 10**15)


def exchange(at_ns: int, there_ns: int, back_ns: int, offset_ns: int) -> Exchange:
    """Return an exchange that took so long there and back, with a clock that is `offset_ns` ahead."""
    return Exchange(at_ns, at_ns + there_ns + offset_ns, at_ns + there_ns + back_ns)


@settings(deadline=None)
@given(offsets_ns, st.lists(st.tuples(delays_ns, delays_ns), min_size=1, max_size=50))
def test_the_true_offset_is_within_what_is_stated(offset_ns: int, delays: list[tuple[int, int]]) -> None:
    """However unlike the ways there and back are, the truth lies between the bounds; the shortest trip sets them."""
    asked = [exchange(number * 10**9, there, back, offset_ns) for number, (there, back) in enumerate(delays)]
    found = best(asked)
    assert found.lo_ns <= offset_ns <= found.hi_ns
    assert abs(found.ns - offset_ns) <= found.uncertainty_ns
    assert found.hi_ns - found.lo_ns == min(there + back for there, back in delays)


@settings(deadline=None)
@given(
    offsets_ns,
    st.integers(-5_000_000, 5_000_000),
    st.lists(st.tuples(delays_ns, delays_ns), min_size=2, max_size=2),
    st.floats(0.0, 1.0),
)
def test_a_drifting_clock_is_within_what_is_stated(
    offset_ns: int, drift_ns: int, delays: list[tuple[int, int]], when: float
) -> None:
    """At any time of a run the offset reckoned with, that of the beginning, is off by no more than is stated."""
    before, after = (
        best([exchange(at_ns, *delay, offset_ns + moved_ns)])
        for at_ns, delay, moved_ns in zip((0, 10**12), delays, (0, drift_ns), strict=True)
    )
    true_ns = offset_ns + int(drift_ns * when)
    assert abs(before.ns - true_ns) <= over_run(before, after)


def test_one_clock_needs_no_measuring() -> None:
    """The name of a clock is that of the kernel that runs it; on one clock there is nothing to be wrong about."""
    assert clock_name() == clock_name()
    assert over_run(SAME, SAME) == 0
    assert Offset(-3, 4).uncertainty_ns == 4


def test_a_kernel_without_time_namespaces_has_one_clock_a_boot(tmp_path: Path) -> None:
    """Where there is no namespace to name, the boot alone names the clock."""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("one-boot\n")
    assert clock_name(tmp_path) == "one-boot"
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/time").symlink_to("time:[7]")
    assert clock_name(tmp_path) == "one-boot time:[7]"
