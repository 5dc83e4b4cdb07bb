import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data.plan import BlockPlan, permuted


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 1000))
def test_a_permutation_is_one(size, seed, epoch):
    out = permuted(np.arange(size), size, seed, epoch)
    assert np.array_equal(np.sort(out), np.arange(size))


def test_a_permutation_shuffles_and_differs_by_seed_and_epoch():
    a, b, c = (permuted(np.arange(1000), 1000, *key) for key in ((0, 0), (0, 1), (1, 0)))
    for x, y in ((a, b), (a, c), (a, np.arange(1000))):
        assert (x == y).mean() < 0.02
    # Neighbours end up far apart: of random order the mean distance is a third.
    assert np.abs(np.diff(a)).mean() == pytest.approx(1000 / 3, rel=0.1)


def test_some_of_a_billion():
    rows = permuted(np.array([0, 1, 999_999_999]), 10**9, 7, 3)
    assert len(set(rows.tolist())) == 3 and rows.max() < 10**9


@settings(max_examples=60)
@given(st.integers(2, 4000), st.integers(1, 40), st.integers(1, 9))
def test_in_order_every_target_is_visited_once(tokens, length, batch):
    plan = BlockPlan(tokens, length, batch, None)
    starts = np.concatenate([plan.block_starts(step) for step in range(plan.steps_per_epoch)])
    targets = (starts[:, None] + 1 + np.arange(length)).ravel()
    assert np.array_equal(targets[targets < tokens], np.arange(1, tokens))


@settings(max_examples=60)
@given(
    st.integers(2, 4000),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_a_shuffled_epoch_visits_no_target_twice(tokens, length, batch, seed, epoch):
    plan = BlockPlan(tokens, length, batch, seed)
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    starts = np.concatenate([plan.block_starts(step) for step in steps])
    targets = (starts[:, None] + 1 + np.arange(length)).ravel()
    targets = targets[targets < tokens]
    assert len(starts) == plan.blocks
    assert len(np.unique(targets)) == len(targets) >= tokens - 1 - 2 * length


def test_epochs_begin_their_blocks_elsewhere():
    plan = BlockPlan(10_000, 50, 8, seed=1)
    phases = {int(plan.block_starts(e * plan.steps_per_epoch)[0] % 50) for e in range(12)}
    assert len(phases) > 5


def test_a_step_far_out_is_the_same_in_any_order():
    plan = BlockPlan(100_000, 64, 8, seed=3)
    late = plan.block_starts(10**7)
    plan.block_starts(5)
    np.testing.assert_array_equal(plan.block_starts(10**7), late)
