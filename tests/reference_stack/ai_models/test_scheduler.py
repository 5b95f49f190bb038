"""Continuous batching without a clock: every sequence ends, nothing is computed twice or lost, blocks come back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.services.ai_models.scheduler import Limits, Scheduler, Sequence

ROOMY = Limits(max_num_seqs=8, max_num_batched_tokens=64, kv_tokens=4096)


def sequence(prompt: int = 10, output: int = 3, arrival_s: float = 0.0) -> Sequence:
    return Sequence(prompt_tokens=prompt, output_tokens=output, arrival_s=arrival_s)


def run(scheduler: Scheduler[Sequence], at_s: float = 0.0) -> int:
    """Step until nothing is left; return the number of steps."""
    steps = 0
    while scheduler.busy:
        step = scheduler.step(at_s + steps)
        assert step.prefill_tokens + step.decode_seqs > 0, "a step without work never ends"
        steps += 1
        scheduler.finish(step, at_s + steps)
    return steps


def test_one_sequence_takes_a_step_for_each_token() -> None:
    """Prefill gives the first token, then every step one more."""
    scheduler: Scheduler[Sequence] = Scheduler(ROOMY)
    one = sequence(prompt=10, output=3)
    scheduler.add(one)

    assert run(scheduler) == 3
    assert (one.started_s, one.first_token_s, one.last_token_s, one.generated) == (0.0, 1.0, 3.0, 3)
    assert scheduler.kv_usage == 0.0


def test_a_long_prompt_is_computed_in_chunks_beside_running_ones() -> None:
    """Running sequences go on while a long prompt takes what is left of the token budget."""
    scheduler: Scheduler[Sequence] = Scheduler(ROOMY)
    short, long = sequence(prompt=4, output=10), sequence(prompt=150, output=1)
    scheduler.add(short)
    scheduler.finish(scheduler.step(0), 1)
    scheduler.add(long)
    chunks = []
    while not long.over:
        step = scheduler.step(0)
        chunks.append((step.prefill_tokens, step.decode_seqs))
        scheduler.finish(step, 1)

    assert chunks == [(63, 1), (63, 1), (24, 1)]


def test_sequences_wait_for_a_place() -> None:
    """Beyond max_num_seqs sequences wait, in order of arrival."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(2, 64, 4096))
    three = [sequence(output=2) for _ in range(3)]
    for one in three:
        scheduler.add(one)
    scheduler.step(0)

    assert scheduler.running == three[:2]
    assert list(scheduler.waiting) == three[2:]


def test_admission_waits_for_room() -> None:
    """A prompt for which there are no blocks waits until some come back."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(8, 1024, 64))
    first, second = sequence(prompt=40, output=2), sequence(prompt=40, output=2)
    scheduler.add(first)
    scheduler.add(second)
    scheduler.finish(scheduler.step(0), 1)

    assert scheduler.running == [first]
    assert scheduler.kv_usage == 0.75
    run(scheduler)
    assert second.generated == 2


def test_the_youngest_gives_way_and_is_computed_again() -> None:
    """When running sequences outgrow the KV, the youngest starts over later and still gets every token."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(8, 1024, 64))
    old, young = sequence(prompt=30, output=30), sequence(prompt=30, output=30)
    scheduler.add(old)
    scheduler.add(young)
    run(scheduler)

    assert scheduler.preemptions == young.preemptions == 1
    assert old.preemptions == 0
    assert old.last_token_s is not None
    assert young.last_token_s is not None
    assert old.last_token_s < young.last_token_s
    assert (old.generated, young.generated) == (30, 30)


def test_abort_frees_at_once() -> None:
    """An aborted sequence holds no block, gets no token, and aborting twice does no harm."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(1, 64, 4096))
    running, waiting = sequence(output=50), sequence()
    scheduler.add(running)
    scheduler.add(waiting)
    step = scheduler.step(0)
    scheduler.abort(running)
    scheduler.abort(running)
    scheduler.abort(waiting)

    assert scheduler.finish(step, 1) == []
    assert not scheduler.busy
    assert scheduler.kv_usage == 0.0


def test_no_blocks_at_all_means_no_usage() -> None:
    """A scheduler without KV says that none is used."""
    assert Scheduler[Sequence](Limits(1, 1, 0)).kv_usage == 0.0


WORK = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 30), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=80)
@given(WORK, st.integers(1, 6), st.integers(1, 48), st.integers(7, 20))
def test_every_sequence_ends_whole(work: list[tuple[int, int, int, bool]], seqs: int, tokens: int, blocks: int) -> None:
    """Whatever arrives when, each sequence gets all its tokens or is aborted, limits hold, and all blocks come back."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(seqs, tokens, blocks * 16))
    pending = sorted(
        ((at, sequence(prompt, output, float(at)), leaves) for prompt, output, at, leaves in work),
        key=lambda item: item[0],
    )
    all_of_them = list(pending)
    for now in range(10_000):
        while pending and pending[0][0] <= now:
            scheduler.add(pending.pop(0)[1])
        for _, one, leaves in all_of_them:
            if leaves and one.generated >= 5:
                scheduler.abort(one)
        if not scheduler.busy and not pending:
            break
        step = scheduler.step(float(now))
        assert len(scheduler.running) <= seqs
        assert step.prefill_tokens + step.decode_seqs <= tokens
        assert sum(one.blocks for one in scheduler.running) == scheduler.blocks_total - scheduler.blocks_free
        scheduler.finish(step, float(now + 1))

    assert not scheduler.busy
    assert scheduler.blocks_free == scheduler.blocks_total
    for _, one, leaves in all_of_them:
        assert one.over
        assert one.generated == one.output_tokens or (leaves and one.generated >= 5)
