"""Rows of a query, its document and negatives: by hand, and the same whoever asks for a step."""

import numpy as np
import pytest

from tfllm.data import RetrievalBatches, build_array_store
from tfllm.data.encoders import Encoded, Ragged
from tfllm.data.judged import Judged
from tfllm.errors import InputError


class Numbers:
    """Rows of given ids."""

    def identity(self):
        return {"encoder": "rows of test_retrieval_batches.py"}

    def __call__(self, examples):
        rows = [example["ids"] for example in examples]
        return Encoded({"input_ids": Ragged.of(rows, np.dtype(np.uint16))}, {})


def store_of(rows, folder):
    return build_array_store([{"ids": row} for row in rows], Numbers(), cache_dir=folder)


def judged_of(answers, negatives=()):
    judged = Judged(negatives={str(q): [*map(str, ds)] for q, ds in dict(negatives).items()})
    for query, documents in enumerate(answers):
        for document in documents:
            judged.add(str(query), f"q{query}", str(document), 1)
    return judged


def batches_of(folder, answers, corpus, *, negatives=(), size=2, num_negatives=1, seed=0):
    documents = store_of([[100 + d] * (1 + d % 3) for d in range(corpus)], folder / "d")
    queries = store_of([[q + 1, 9] for q in range(len(answers))], folder / "q")
    pairs = judged_of(answers, negatives).pairs({str(d): d for d in range(corpus)})
    return RetrievalBatches(
        queries, documents, pairs, features=["input_ids"], num_negatives=num_negatives,
        global_batch_size=size, seed=seed,
    )  # fmt: skip


def test_a_batch_by_hand(tmp_path):
    batches = batches_of(tmp_path, [[0, 2]], 5, negatives={0: [4, 2]}, size=4)
    features, targets, weights = batches.batch(0)
    assert weights.tolist() == [1, 1, 0, 0] and sorted(targets[:2].tolist()) == [0, 2]
    first = int(targets[0] == 2)  # the pairs come in random order
    order = [first, 1 - first, first, first]
    assert features["query_input_ids"].tolist() == [[1, 9]] * 4
    assert features["document_rows"].tolist() == [[[0, 4], [2, 4]][pair] for pair in order]
    own = [[100, 0, 0], [102, 102, 102]]
    documents = [[own[pair], [104, 104, 0]] for pair in order]
    assert features["document_input_ids"].tolist() == documents
    assert features["document_attention_mask"].tolist() == (np.array(documents) > 0).tolist()
    assert features["relevant_rows"].tolist() == [[0, 2]] * 4
    assert batches.row_tokens == 2 and batches.tokens_per_step == 12


def test_every_pair_once_and_other_negatives_in_each_epoch(tmp_path):
    answers = [[q, 20] for q in range(7)]
    negatives = {q: [d for d in range(8, 18)] for q in range(7)}
    batches = batches_of(tmp_path, answers, 21, negatives=negatives, size=4, num_negatives=3)
    drawn = []
    for epoch in range(3):
        seen = []
        for step in range(epoch * 4, epoch * 4 + 4):
            features, targets, weights = batches.batch(step)
            real = weights > 0
            queries = features["query_input_ids"][real, 0] - 1
            seen += zip(queries.tolist(), targets[real].tolist(), strict=True)
            of_step = features["document_rows"][real, 1:]
            assert all(
                len(set(row)) == 3 and set(row) <= set(range(8, 18)) for row in of_step.tolist()
            )
            drawn.append(of_step)
        assert sorted(seen) == sorted((q, d) for q in range(7) for d in (q, 20))
    rows = np.concatenate(drawn)
    assert set(rows.ravel()) == set(range(8, 18))
    assert len({tuple(sorted(row)) for row in rows.tolist()}) > 20


def test_where_hard_negatives_are_few_the_corpus_has_more(tmp_path):
    batches = batches_of(tmp_path, [[0], [1]], 300, negatives={0: [7]}, num_negatives=4)
    rows = np.concatenate([batches.batch(step)[0]["document_rows"] for step in range(40)])
    hard = rows[rows[:, 0] == 0, 1:]
    assert (hard[:, 0] == 7).all() and len(set(hard[:, 1:].ravel())) > 60
    assert len(set(rows[rows[:, 0] == 1, 1:].ravel())) > 80 and rows.max() < 300
    none = batches_of(tmp_path, [[0], [1]], 300, num_negatives=0)
    assert none.batch(0)[0]["document_rows"].shape == (2, 1)


def test_a_step_is_the_same_whoever_asks_for_it(tmp_path):
    answers = [[q] for q in range(11)]
    how = {"negatives": {q: range(12, 20) for q in range(11)}, "size": 4, "num_negatives": 2}
    batches = batches_of(tmp_path, answers, 20, **how)
    again = batches_of(tmp_path, answers, 20, **how)
    for step in (7, 2, 1_000_001):
        for one, other in zip(flat(batches.batch(step)), flat(again.batch(step)), strict=True):
            np.testing.assert_array_equal(one, other)
        parts = [batches.batch(step, worker, 2)[0]["document_rows"] for worker in (0, 1)]
        whole = batches.batch(step)[0]["document_rows"]
        if batches.batch(step)[2].all():
            np.testing.assert_array_equal(np.concatenate(parts), whole)
    # Going on at step 2 is what comes third.
    resumed = [flat(batch) for batch in batches.dataset(2, 3).as_numpy_iterator()]
    through = [flat(batch) for batch in batches.dataset(0, 5).as_numpy_iterator()][2:]
    for one, other in zip(resumed, through, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    different = batches_of(tmp_path, answers, 20, **how | {"seed": 1})
    rows = [b.batch(0)[0]["document_rows"].tolist() for b in (batches, different)]
    assert rows[0] != rows[1]


def flat(batch):
    features, targets, weights = batch
    return [*(features[name] for name in sorted(features)), targets, weights]


def test_a_run_that_goes_on_is_held_to_the_corpus_and_the_pairs(tmp_path):
    found = batches_of(tmp_path, [[0], [1]], 5).identity()
    assert set(found) == {"training data", "encoding", "documents", "pairs"}
    for changed, (answers, corpus) in {
        "documents": ([[0], [1]], 6),
        "pairs": ([[0], [2]], 5),
    }.items():
        other = batches_of(tmp_path, answers, corpus).identity()
        assert {name for name in found if found[name] != other[name]} == {changed}


def test_mined_negatives_go_to_those_that_have_none():
    pairs = judged_of([[0], [1], [2]], {1: [5, 6]}).pairs({str(d): d for d in range(9)})
    mined = np.array([[7, 8, -1], [3, 4, -1], [-1, -1, -1]])
    given = pairs.with_negatives(mined)
    assert given.negatives.tolist() == [[7, 8, -1], [5, 6, -1], [-1, -1, -1]]
    assert (
        given.digest()
        != pairs.digest()
        == judged_of([[0], [1], [2]], {1: [5, 6]}).pairs({str(d): d for d in range(9)}).digest()
    )


def test_what_makes_no_batches(tmp_path):
    with pytest.raises(InputError, match="no query has a document that answers it"):
        batches_of(tmp_path, [[]], 3)
    with pytest.raises(InputError, match="num_negatives must not be negative"):
        batches_of(tmp_path, [[0]], 3, num_negatives=-1)
