import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data.pair_plan import PairPlan

ROOM = 20
# Tokens of each sentence of each document, none longer than half the room.
DOCUMENTS = st.lists(
    st.lists(st.integers(1, ROOM // 2), min_size=1, max_size=12), min_size=2, max_size=8
)
OBJECTIVES = st.sampled_from(["next_sentence", "sentence_order"])


def plan_of(documents, objective, seed=3, batch=4) -> PairPlan:
    sizes = [size for document in documents for size in document]
    begins, chunks = [], []
    for document in documents:
        filled = 0
        for number, size in enumerate(document):
            begins.append(number == 0)
            chunks.append(number == 0 or filled + size > ROOM)
            filled = size if chunks[-1] else filled + size
    return PairPlan(
        np.cumsum([0, *sizes]),
        np.array(begins, np.uint8),
        np.array(chunks, np.uint8),
        room=ROOM,
        objective=objective,
        global_batch_size=batch,
        seed=seed,
    )


def documents_of_pairs(documents) -> int:
    return sum(len(document) > 1 for document in documents)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, st.integers(0, 5))
def test_order_reads_every_token_once(documents, epoch):
    plan = plan_of(documents, "sentence_order")
    pairs = plan.pairs(np.arange(plan.num_rows), epoch)
    spans = [
        range(start, start + length)
        for row in zip(pairs.starts, pairs.lengths, strict=True)
        for start, length in zip(*row, strict=True)
    ]
    assert sorted(t for span in spans for t in span) == list(range(sum(map(sum, documents))))
    assert (pairs.lengths.sum(axis=1) <= ROOM).all() and plan.num_pairs == pairs.are_pairs.sum()
    later = pairs.starts[:, 0] > pairs.starts[:, 1]
    np.testing.assert_array_equal(pairs.labels, later & pairs.are_pairs)
    first = np.where(later, pairs.starts[:, 1], pairs.starts[:, 0])
    length = np.where(later, pairs.lengths[:, 1], pairs.lengths[:, 0])
    touching = first + length == pairs.starts.max(axis=1)
    assert touching[pairs.are_pairs].all() and (length <= ROOM // 2).all()


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS.filter(lambda some: documents_of_pairs(some) > 1), st.integers(0, 5))
def test_next_sentences_are_whole_and_of_one_document(documents, epoch):
    plan = plan_of(documents, "next_sentence")
    pairs = plan.pairs(np.arange(plan.num_rows), epoch)
    sizes = [size for document in documents for size in document]
    bounds = np.cumsum([0, *sizes])
    owner = np.repeat(np.arange(len(documents)), [sum(document) for document in documents])
    ends = np.append(bounds[np.cumsum([len(document) for document in documents])], -1)
    for (a, b), (of_a, of_b), label in zip(*pairs, strict=True):
        assert {a, a + of_a} <= set(bounds.tolist())
        if not of_b:
            assert not label
            continue
        assert {b, b + of_b} <= set(bounds.tolist()) and of_a + of_b <= ROOM
        assert owner[b] == owner[b + of_b - 1]
        assert (owner[a] != owner[b]) == label and (label or b == a + of_a)
        # As many sentences as fit.
        after = np.searchsorted(bounds, b + of_b)
        assert b + of_b == ends[owner[b]] or of_a + of_b + sizes[after] > ROOM


@settings(max_examples=60, deadline=None)
@given(
    DOCUMENTS.filter(lambda some: documents_of_pairs(some) > 1),
    OBJECTIVES,
    st.integers(0, 5),
    st.none() | st.integers(0, 3),
)
def test_a_row_does_not_know_its_neighbours(documents, objective, epoch, seed):
    plan = plan_of(documents, objective, seed)
    rows = np.arange(plan.num_rows)
    together = plan.pairs(rows, epoch)
    for row in rows:
        alone = plan.pairs(rows[row : row + 1], epoch)
        for one, all_rows in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_rows[row])


@pytest.mark.parametrize("objective", ["next_sentence", "sentence_order"])
def test_half_of_the_pairs_are_wrong_and_epochs_differ(objective):
    rng = np.random.default_rng(0)
    plan = plan_of([rng.integers(1, 11, 40).tolist() for _ in range(150)], objective)
    rows = np.arange(plan.num_rows)
    epochs = [plan.pairs(rows, epoch) for epoch in range(3)]
    for pairs in epochs:
        assert pairs.labels[pairs.are_pairs].mean() == pytest.approx(0.5, abs=0.06)
    changed = np.mean(epochs[0].labels != epochs[1].labels)
    assert changed == pytest.approx(0.5, abs=0.06)
    # Chunks are parted behind other sentences in other epochs.
    assert len({pairs.lengths.tobytes() for pairs in epochs}) == 3
    assert [plan.epoch(step) for step in (0, plan.steps_per_epoch)] == [0, 1]
    assert plan_of([[2, 3]] * 9, objective, seed=None).epoch(10**6) == 0


def test_wrong_seconds_look_like_right_ones():
    """They begin where sentences begin, behind a text as long, and are as long."""
    rng = np.random.default_rng(1)
    plan = plan_of([rng.integers(1, 11, 60).tolist() for _ in range(400)], "next_sentence")
    pairs = plan.pairs(np.arange(plan.num_rows), 0)
    for column in (0, 1):
        lengths = pairs.lengths[pairs.are_pairs, column]
        wrong = pairs.labels[pairs.are_pairs] == 1
        assert lengths[wrong].mean() == pytest.approx(lengths[~wrong].mean(), rel=0.05)
