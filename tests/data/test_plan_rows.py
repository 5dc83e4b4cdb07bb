"""Plans over rows: every row once in an epoch, whatever the number of workers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data.bucket_plan import BucketPlan
from tfllm.data.budget_plan import BudgetPlan
from tfllm.data.length_order import LengthOrder
from tfllm.data.plan import BlockPlan
from tfllm.data.row_plan import RowPlan
from tfllm.data.widths import choose_widths
from tfllm.data.worker_share import worker_share
from tfllm.errors import InputError

LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=400).map(np.array)
SEEDS = st.none() | st.integers(0, 9)


def plans_of(lengths, workers, per_worker, seed):
    batch = workers * per_worker
    widths = choose_widths(lengths, 4)
    budget = batch * widths[-1]
    return [
        RowPlan(len(lengths), batch, seed),
        BucketPlan(lengths, batch, seed),
        BudgetPlan(lengths, widths, token_budget=budget, rows_multiple=workers, seed=seed),
    ]


@settings(max_examples=150)
@given(LENGTHS, st.integers(1, 8), st.integers(1, 5), SEEDS, st.integers(0, 3))
def test_every_row_once_in_an_epoch(lengths, workers, per_worker, seed, epoch):
    for plan in plans_of(lengths, workers, per_worker, seed):
        read = []
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            whole = plan.rows(step)
            assert 0 < len(whole.rows) <= whole.size
            shares = [plan.rows(step, worker, workers) for worker in range(workers)]
            assert {share.size * workers for share in shares} == {whole.size}
            assert {share.width for share in shares} == {whole.width}
            assert all(len(share.rows) <= share.size for share in shares)
            union = np.concatenate([share.rows for share in shares])
            np.testing.assert_array_equal(union, whole.rows)
            if whole.width is not None:
                assert lengths[whole.rows].max() <= whole.width
            read.append(union)
        np.testing.assert_array_equal(np.sort(np.concatenate(read)), np.arange(len(lengths)))


@settings(max_examples=60)
@given(st.integers(2, 2000), st.integers(1, 40), st.integers(1, 8), st.integers(1, 3), SEEDS)
def test_blocks_are_shared_out(tokens, length, workers, per_worker, seed):
    plan = BlockPlan(tokens, length, workers * per_worker, seed)
    for step in range(min(plan.steps_per_epoch, 20)):
        shares = [plan.block_starts(step, worker, workers) for worker in range(workers)]
        np.testing.assert_array_equal(np.concatenate(shares), plan.block_starts(step))


@given(LENGTHS, st.integers(0, 9), st.integers(0, 10**12))
def test_the_same_step_gives_the_same_rows(lengths, seed, step):
    for plan, again in zip(*(plans_of(lengths, 2, 2, seed) for _ in range(2)), strict=True):
        first = plan.rows(step)
        plan.rows(step + 1)
        np.testing.assert_array_equal(plan.rows(step).rows, first.rows)
        np.testing.assert_array_equal(again.rows(step).rows, first.rows)


def test_epochs_and_seeds_differ():
    lengths = np.random.default_rng(0).integers(1, 30, 2000)
    for make in (
        lambda seed: RowPlan(2000, 8, seed),
        lambda seed: BucketPlan(lengths, 8, seed),
        lambda seed: BudgetPlan(lengths, [10, 20, 30], token_budget=240, seed=seed),
    ):
        plan, other = make(0), make(1)
        epochs = [plan.steps_per_epoch * e for e in range(4)]
        batches = {tuple(sorted(plan.rows(step).rows)) for step in epochs}
        assert len(batches | {tuple(sorted(other.rows(0).rows))}) == 5
        # Batches are made up anew, not only dealt in another order.
        first = {tuple(sorted(plan.rows(s).rows)) for s in range(plan.steps_per_epoch)}
        second = {tuple(sorted(plan.rows(s + epochs[1]).rows)) for s in range(epochs[1])}
        assert len(first & second) < 0.05 * len(first)


def test_validation_order_is_the_stores():
    plan = RowPlan(7, 3, None)
    rows = [plan.rows(step).rows.tolist() for step in range(plan.steps_per_epoch)]
    assert rows == [[0, 1, 2], [3, 4, 5], [6]]
    assert [plan.rows(2, worker, 3).rows.tolist() for worker in range(3)] == [[6], [], []]


def test_buckets_are_as_wide_as_their_longest_row():
    plan = BucketPlan(np.array([9, 2, 9, 2, 2]), 2, None)
    steps = [plan.rows(step) for step in range(3)]
    assert [step.rows.tolist() for step in steps] == [[1, 3], [4, 0], [2]]
    assert [step.width for step in steps] == [2, 9, 9]


def test_buckets_waste_little():
    lengths = np.random.default_rng(1).gamma(2, 20, 5000).astype(int) + 3
    for seed in range(3):
        plan = BucketPlan(lengths, 32, seed)
        padded = sum(len(s.rows) * s.width for s in map(plan.rows, range(plan.steps_per_epoch)))
        assert lengths.sum() / padded > 0.96


def test_a_budget_by_hand():
    lengths = np.array([1, 5, 8, 2, 3, 1])
    plan = BudgetPlan(lengths, [2, 8], token_budget=17, rows_multiple=2, seed=None)
    assert plan.rows_of_width.tolist() == [8, 2]
    steps = [plan.rows(step) for step in range(plan.steps_per_epoch)]
    assert [(s.rows.tolist(), s.size, s.width) for s in steps] == [
        ([0, 3, 5], 8, 2),
        ([1, 2], 2, 8),
        ([4], 2, 8),
    ]


@pytest.mark.parametrize(
    ("widths", "budget", "message"),
    [
        ([4], 100, "a row has 5 tokens, and the widest batch 4"),
        ([5], 9, "2 rows of 5 tokens.* above the budget of 9"),
    ],
)
def test_budgets_that_cannot_be(widths, budget, message):
    with pytest.raises(InputError, match=message):
        BudgetPlan(np.array([5]), widths, token_budget=budget, rows_multiple=2)


def test_shares_by_hand():
    assert worker_share(8, 1, 4) == slice(2, 4)
    with pytest.raises(InputError, match="8 rows.*3 workers"):
        worker_share(8, 0, 3)
    with pytest.raises(InputError, match="at least 0 and below 2. Received: 2"):
        worker_share(8, 2, 2)


def test_widths_by_hand():
    assert choose_widths(np.array([3, 3, 3, 9, 10]), 2) == [3, 10]
    assert choose_widths(np.array([3, 3, 3, 9, 10]), 9) == [3, 9, 10]
    assert choose_widths(np.array([3, 3, 9, 17]), 2, multiple=8) == [8, 24]
    assert choose_widths(np.array([0]), 3) == [1]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 4))
def test_no_widths_waste_less(lengths, count):
    from itertools import combinations

    def padded(widths):
        return sum(min(w for w in widths if w >= length) for length in lengths)

    lengths = np.array(lengths)
    widths = choose_widths(lengths, count)
    assert len(widths) <= count and widths == sorted(set(widths))
    below = range(1, lengths.max())
    others = (
        [*some, int(lengths.max())]
        for n in range(count)
        for some in combinations(below, min(n, len(below)))
    )
    assert padded(widths) == min(map(padded, others))


def test_many_lengths_take_few_widths():
    lengths = np.arange(1, 20_000)
    widths = choose_widths(lengths, 8)
    assert len(widths) == 8 and widths[-1] >= 19_999
    with pytest.raises(ValueError, match="no rows"):
        choose_widths(np.array([], int))


def test_a_length_order_keeps_four_bytes_a_row():
    order = LengthOrder(np.arange(1000) % 7, 7)
    assert order._order.nbytes == 4000


@pytest.mark.parametrize(
    "plan",
    [
        RowPlan(0, 3, None),
        BucketPlan(np.zeros(0, np.int64), 3, 1),
        BudgetPlan(np.zeros(0, np.int64), [4], token_budget=8, seed=1),
    ],
    ids=lambda plan: type(plan).__name__,
)
def test_no_rows_are_refused(plan):
    assert plan.steps_per_epoch == 0
    with pytest.raises(InputError, match="there are no rows to deal"):
        plan.rows(0)


def test_a_step_has_rows():
    for make in (lambda: RowPlan(5, 0, None), lambda: BucketPlan(np.array([1]), 0, None)):
        with pytest.raises(InputError, match="global_batch_size must be at least 1. Received: 0"):
            make()
