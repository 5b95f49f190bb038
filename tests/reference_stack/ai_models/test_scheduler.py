"""Continuous batching without a clock: every sequence ends, nothing is computed twice or lost, blocks come back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_stack.services.ai_models.blocks import block_keys
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


def test_a_whole_prompt_must_have_room_before_it_starts() -> None:
    """A long prompt does not start with a first chunk that would then wait for the rest."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(8, 16, 64))
    first, second = sequence(prompt=20, output=4), sequence(prompt=40, output=1)
    for one in (first, second):
        scheduler.add(one)
    scheduler.finish(scheduler.step(0), 1)
    scheduler.finish(scheduler.step(1), 2)

    assert scheduler.running == [first]
    run(scheduler)
    assert (scheduler.preemptions, second.generated) == (0, 1)


def keyed(tokens: list[int], output: int = 1, salt: str | None = None) -> Sequence:
    """A sequence whose prompt is `tokens`; its reply is all zeros."""
    keys = block_keys(tokens + [0] * output, salt)
    return Sequence(len(tokens), output, 0.0, keys=keys)


def serve(scheduler: Scheduler[Sequence], one: Sequence) -> int:
    """Serve `one` alone; return the tokens that it had computed before its first one came."""
    scheduler.add(one)
    computed = 0
    while one.first_token_s is None:
        step = scheduler.step(0)
        computed += step.prefill_tokens
        scheduler.finish(step, 1)
    run(scheduler, 1)
    return computed


def test_an_equal_beginning_is_computed_once() -> None:
    """What an earlier prompt began with is found, in whole blocks, also after that one has ended."""
    scheduler: Scheduler[Sequence] = Scheduler(ROOMY)
    assert serve(scheduler, keyed([*range(40), 1])) == 41
    follower = keyed([*range(40), 2])

    assert serve(scheduler, follower) == 41 - 32
    assert follower.cached == 32
    assert (scheduler.cache_queries, scheduler.cache_hits) == (82, 32)


def test_the_last_token_is_always_computed() -> None:
    """The same prompt again, of whole blocks, still computes its last block."""
    scheduler: Scheduler[Sequence] = Scheduler(ROOMY)

    assert [serve(scheduler, keyed([*range(64)])) for _ in range(3)] == [64, 16, 16]


def test_a_reply_is_found_by_the_prompt_that_goes_on_from_it() -> None:
    """A conversation's next turn finds the blocks of the reply, too."""
    scheduler: Scheduler[Sequence] = Scheduler(ROOMY)
    serve(scheduler, keyed([*range(1, 17)], output=33))

    assert serve(scheduler, keyed([*range(1, 17), *[0] * 33, 5])) == 50 - 48


def test_salt_keeps_tenants_apart() -> None:
    """Prompts of another salt, and those that ask for no cache, find nothing."""
    scheduler: Scheduler[Sequence] = Scheduler(ROOMY)
    tokens = [*range(40)]
    aloof = keyed(tokens)
    aloof.reads_cache = False

    assert serve(scheduler, keyed(tokens)) == 40
    assert serve(scheduler, keyed(tokens, salt="b")) == 40
    assert serve(scheduler, aloof) == 40
    assert serve(scheduler, keyed(tokens)) == 8


def test_choices_of_a_request_share_its_prompt_in_one_step() -> None:
    """Four choices of one prompt compute its blocks once and hold them together."""
    scheduler: Scheduler[Sequence] = Scheduler(ROOMY)
    four = [keyed([*range(40)], output=5) for _ in range(4)]
    for one in four:
        scheduler.add(one)
    step = scheduler.step(0)

    assert step.prefill_tokens == 40 + 3 * 8
    assert scheduler.pool.total - scheduler.pool.free == 2 + 4
    scheduler.finish(step, 1)
    for one in four[:3]:
        scheduler.abort(one)
    assert scheduler.pool.total - scheduler.pool.free == 3
    run(scheduler)
    assert scheduler.kv_usage == 0.0


def test_the_longest_unused_prefix_is_forgotten_first() -> None:
    """When other prompts need the blocks, the prefix that was used last stays."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(8, 1024, 10 * 16))
    old, young = [1] * 48, [2] * 48
    serve(scheduler, keyed([*old, 0]))
    serve(scheduler, keyed([*young, 0]))
    serve(scheduler, keyed([*old, 3]))
    serve(scheduler, keyed([4] * 80))

    assert serve(scheduler, keyed([*old, 5])) == 1
    assert serve(scheduler, keyed([*young, 6])) > 1


def test_a_preempted_sequence_finds_its_own_blocks() -> None:
    """Computing again costs only what the cache has lost meanwhile."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(8, 1024, 80))
    old, young = keyed([1] * 30, output=30), keyed([2] * 30, output=20)
    for one in (old, young):
        scheduler.add(one)
    prefilled = 0
    while scheduler.busy:
        step = scheduler.step(0)
        prefilled += step.prefill_tokens
        scheduler.finish(step, 1)

    assert young.preemptions >= 1
    assert 60 < prefilled < 90
    assert scheduler.cache_queries == 60  # the second start is not counted
    assert (old.generated, young.generated) == (30, 20)


WORK = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 30), st.booleans(), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(WORK, st.integers(1, 6), st.integers(1, 48), st.integers(7, 20))
def test_every_sequence_ends_whole(
    work: list[tuple[int, int, int, bool, int]], seqs: int, tokens: int, blocks: int
) -> None:
    """Whatever arrives when, shared or not, each sequence gets all its tokens or is aborted, and limits hold."""
    scheduler: Scheduler[Sequence] = Scheduler(Limits(seqs, tokens, blocks * 16))
    all_of_them = [(at, arriving(prompt, output, at, kind), leaves) for prompt, output, at, leaves, kind in work]
    pending = sorted(all_of_them, key=lambda item: item[0])
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
        assert 0 < step.prefill_tokens + step.decode_seqs <= tokens or not scheduler.busy
        held = {block for one in scheduler.running for block in one.blocks}
        assert len(held) == scheduler.pool.total - scheduler.pool.free <= blocks
        assert all(16 * len(one.blocks) >= one.computed for one in scheduler.running)
        scheduler.finish(step, float(now + 1))

    assert not scheduler.busy
    assert scheduler.pool.free == scheduler.pool.total
    for _, one, leaves in all_of_them:
        assert one.over
        assert one.cached < one.prompt_tokens
        assert one.generated == one.output_tokens or (leaves and one.generated >= 5)


def arriving(prompt: int, output: int, at: int, kind: int) -> Sequence:
    """Kind 0 shares nothing; sequences of the same other kind have the same tokens as far as they go."""
    keys = block_keys([kind] * (prompt + output)) if kind else ()
    return Sequence(prompt, output, float(at), keys=keys)
