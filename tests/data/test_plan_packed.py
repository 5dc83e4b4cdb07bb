import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data.packed_plan import PackedPlan
from tfllm.data.packing import pack
from tfllm.errors import InputError

SIZES = st.lists(st.integers(0, 90), min_size=1, max_size=200)


def best_fit_decreasing(lengths, capacity):
    """The rule, one piece at a time."""
    rooms: list[int] = []
    rows: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [(room, i) for i, room in enumerate(rooms) if room >= length]
        if not fitting:
            rooms.append(capacity)
            rows.append([])
            fitting = [(capacity, len(rooms) - 1)]
        room, i = min(fitting)
        rooms[i] -= length
        rows[i].append(length)
    return rows


@settings(max_examples=200)
@given(st.lists(st.integers(1, 30), max_size=150))
def test_packing_is_best_fit_decreasing(lengths):
    kinds = pack(np.bincount(lengths, minlength=31), 30)
    rows = [
        [length for length, each in kind.pieces for _ in range(each)]
        for kind in kinds
        for _ in range(kind.rows)
    ]
    assert sorted(sum(rows, [])) == sorted(lengths)
    # Among rows with the same room the rule leaves the choice, which changes no row's room.
    assert sorted(map(sum, rows)) == sorted(map(sum, best_fit_decreasing(lengths, 30)))


def test_packing_by_hand():
    kinds = pack(np.array([0, 0, 1, 1, 0, 2, 0, 0, 0]), 8)
    assert sorted(kinds) == [(((5, 1), (2, 1)), 1), (((5, 1), (3, 1)), 1)]


def test_ten_million_pieces_are_no_more_work_than_a_thousand():
    counts = np.random.default_rng(0).integers(0, 20_000, 1025)
    counts[0] = 0
    kinds = pack(counts, 1024)
    tokens = (counts * np.arange(1025)).sum()
    rows = sum(kind.rows for kind in kinds)
    assert counts.sum() > 10**7 and tokens / (rows * 1024) > 0.99
    assert len(kinds) < 10_000


@settings(max_examples=150)
@given(
    SIZES,
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(1, 3),
    st.none() | st.integers(0, 9),
    st.integers(0, 3),
)
def test_every_token_once_in_an_epoch(sizes, length, workers, per_worker, seed, epoch):
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    plan = PackedPlan(offsets, length, workers * per_worker, seed)
    read, ends, rows = [], [], 0
    for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
        whole = plan.pieces(step)
        shares = [plan.pieces(step, worker, workers) for worker in range(workers)]
        assert all(share.size == per_worker for share in shares)
        shifted = [share.rows + worker * per_worker for worker, share in enumerate(shares)]
        np.testing.assert_array_equal(np.concatenate(shifted), whole.rows)
        starts = np.concatenate([share.starts for share in shares])
        np.testing.assert_array_equal(starts, whole.starts)
        assert np.bincount(whole.rows, whole.lengths).max() <= length
        rows += whole.rows[-1] + 1
        read += [np.arange(s, s + n) for s, n in zip(whole.starts, whole.lengths, strict=True)]
        ends += (whole.starts + whole.lengths)[whole.ends].tolist()
    tokens = np.concatenate(read) if read else np.zeros(0, int)
    np.testing.assert_array_equal(np.sort(tokens), np.arange(offsets[-1]))
    # Pieces lie within documents, and exactly the documents' ends are marked.
    assert sorted(ends) == [end for end, size in zip(offsets[1:], sizes, strict=True) if size]
    inner = set(offsets[1:-1].tolist())
    assert not any(inner & set(piece[1:].tolist()) for piece in read)
    assert rows == plan.num_rows and plan.tokens == offsets[-1]


def test_epochs_differ_and_steps_do_not():
    sizes = np.random.default_rng(0).integers(1, 200, 3000)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    plan, again = PackedPlan(offsets, 256, 8, 5), PackedPlan(offsets, 256, 8, 5)
    steps = [plan.steps_per_epoch * epoch for epoch in range(4)]
    far = 10**12 + 3
    first = {step: plan.pieces(step).starts.tolist() for step in (*steps, far)}
    assert len({tuple(starts) for starts in first.values()}) == 5
    assert all(again.pieces(step).starts.tolist() == first[step] for step in reversed([*first]))
    # Documents meet others in each epoch.
    mates = [frozenset(p.starts[p.rows == 0]) for p in map(plan.pieces, range(2 * steps[1]))]
    assert len(set(mates)) > 0.99 * len(mates)


def test_short_documents_fill_rows():
    sizes = np.random.default_rng(0).gamma(2, 60, 20_000).astype(int)
    plan = PackedPlan(np.concatenate([[0], np.cumsum(sizes)]), 512, 8, 0)
    assert plan.real_share > 0.998


def test_rows_of_no_use():
    with pytest.raises(InputError, match="below 65536. Received: 70000"):
        PackedPlan(np.array([0, 5]), 70_000, 1, 0)
