from types import SimpleNamespace

import numpy as np
import pytest

from tfllm.errors import InputError
from tfllm.retrieval import embed_corpus


class Store(list):
    folder = SimpleNamespace(name="of-these-documents")


def of(rows=6, size=2):
    return SimpleNamespace(store=Store(range(rows)), plan=SimpleNamespace(global_batch_size=size))


class Predictor:
    """Document n has the vector [n, -n]; the last ones come first."""

    def __init__(self):
        self.asked = 0

    def predict_steps(self, batches, first):
        size = batches.plan.global_batch_size
        order = np.arange(len(batches.store))[::-1].reshape(-1, size)
        for rows in order[first:]:
            self.asked += 1
            yield rows, {"vector": np.stack([rows, -rows], 1).astype(np.float32)}


def test_documents_are_embedded_once_for_all_who_ask(tmp_path):
    path, predictor = tmp_path / "new" / "vectors.npy", Predictor()
    for _ in range(2):
        vectors = embed_corpus(path, predictor, of(), width=2, digest="a model")
        np.testing.assert_array_equal(vectors, [[n, -n] for n in range(6)])
    assert predictor.asked == 3


@pytest.mark.parametrize("changed", ["model", "documents", "batch"])
def test_what_is_of_something_else_is_not_taken(tmp_path, changed):
    path = tmp_path / "vectors.npy"
    embed_corpus(path, Predictor(), of(), width=2, digest="a model")
    batches = of(size=3 if changed == "batch" else 2)
    if changed == "documents":
        batches.store.folder = SimpleNamespace(name="of-others")
    digest = "another" if changed == "model" else "a model"
    with pytest.raises(InputError, match="of another corpus or model"):
        embed_corpus(path, Predictor(), batches, width=2, digest=digest)
