"""Exact search in a corpus by vectors, inside the graph."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.text_embedder import TextEmbedder
from tfllm.models.text_features import TextFeatures

__all__ = ["CorpusSearch", "Found"]

# Documents whose scores are looked at together: 100 MB of vectors of 384 numbers.
_BLOCK = 65_536


class Found(NamedTuple):
    """The best documents of each query, best first; of equal scores the earlier one comes first.

    Attributes:
        places: `<int32>[batch, k]`, places in the corpus.
        scores: `<float32>[batch, k]`.
    """

    places: tf.Tensor
    scores: tf.Tensor


class CorpusSearch(tf.Module):
    """Finds the documents whose vectors have the largest dot product with a query's.

    Vectors, names and texts of the corpus are variables, and saved with the model. Every document
    is scored, in blocks, so that memory does not grow with the corpus.

    Example:
        >>> texts = ["Cats purr.", "It rains."]
        >>> search = CorpusSearch(embedder, vectors, ids=["a", "b"], texts=texts)
        >>> search.signatures(preprocess)["serving_default"](["What do cats do?"])["ids"]
        <tf.Tensor [[b'a', b'b']]>
    """

    def __init__(
        self,
        embedder: TextEmbedder,
        vectors: np.ndarray,
        *,
        ids: Sequence[str],
        texts: Sequence[str],
        block: int = _BLOCK,
    ) -> None:
        """Take a corpus.

        Args:
            embedder: makes vectors of queries.
            vectors: `<float32>[documents, hidden_dim]`, the documents' in their order.
            ids: their names, each another.
            texts: what is given back.
            block: documents that are scored together.

        Raises:
            InputError: if there are no documents, or not as many vectors as names and texts.
        """
        super().__init__(name="corpus_search")
        if not len(vectors):
            raise InputError("the corpus has no documents. Give at least one")
        if not len(vectors) == len(ids) == len(texts):
            raise InputError(
                "a corpus needs a vector, an id and a text for each document. Received: "
                f"{len(vectors)} vectors, {len(ids)} ids and {len(texts)} texts"
            )
        self.embedder = embedder
        self._vectors = _filled(vectors, "vectors")
        self._ids = _strings(ids, "ids")
        self._texts = _strings(texts, "texts")
        self._block = block

    @property
    def num_documents(self) -> int:
        """Documents of the corpus."""
        return int(self._vectors.shape[0])

    @property
    def ids(self) -> tf.Variable:
        """The documents' names, `<string>[documents]`."""
        return self._ids

    @property
    def texts(self) -> tf.Variable:
        """Their texts, `<string>[documents]`."""
        return self._texts

    def find(self, features: TextFeatures, query: tf.Tensor, k: tf.Tensor | int) -> Found:
        """Find the k best documents for texts.

        Args:
            features: makes the embedder's features of texts.
            query: `<string>[batch]`.
            k: `<int32>[]`, at most the number of documents; of a number in Python it is known how
                many columns are found.
        """
        found = self.nearest(self.embedder.embed(features(query)), k)
        if isinstance(k, int):
            found = Found(*(tf.ensure_shape(part, [None, k]) for part in found))
        return found

    def nearest(self, queries: tf.Tensor, k: tf.Tensor | int) -> Found:
        """Find the k documents with the largest dot products.

        Args:
            queries: `<float32>[batch, hidden_dim]`.
            k: `<int32>[]`, at most the number of documents.
        """
        vectors, block = self._vectors.read_value(), self._block
        batch, blocks = tf.shape(queries)[0], -(-self.num_documents // block)

        def next_block(i: tf.Tensor, best: Found) -> Any:
            scores = tf.matmul(queries, vectors[i * block : (i + 1) * block], transpose_b=True)
            of_block = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
            # What was found before stands first, and wins where scores are equal.
            scores = tf.concat([best.scores, of_block.values], axis=1)
            places = tf.concat([best.places, of_block.indices + i * block], axis=1)
            merged = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
            return i + 1, Found(tf.gather(places, merged.indices, batch_dims=1), merged.values)

        nothing = Found(tf.zeros([batch, 0], tf.int32), tf.zeros([batch, 0]))
        unknown = tf.TensorShape([None, None])
        _, best = tf.while_loop(
            lambda i, _: i < blocks,
            next_block,
            (tf.constant(0), nothing),
            shape_invariants=(tf.TensorShape([]), Found(unknown, unknown)),
            parallel_iterations=1,
        )
        return best

    def documents(self, found: Found) -> dict[str, tf.Tensor]:
        """Name what was found: `ids` and `texts` `<string>[batch, k]`, `scores` `<float32>`."""
        return {
            "ids": tf.gather(self._ids, found.places),
            "texts": tf.gather(self._texts, found.places),
            "scores": found.scores,
        }

    def signatures(self, preprocess: Any, *, k: int = 10) -> dict[str, Any]:
        """Give the functions that a bundle serves.

        Args:
            preprocess: a `tfllm.text.Preprocessor` of the embedder's vocabulary.
            k: documents that `serving_default` gives; all where there are fewer.

        Returns:
            `serving_default`: `query` `<string>[batch]` → `ids`, `texts` `<string>[batch, k]` and
            `scores` `<float32>[batch, k]`, best first.
            `search`: also `k` `<int32>[batch]`, held between 1 and the number of documents → as
            many columns as the largest; rows that asked for fewer end in "" and 0.

        Raises:
            InputError: if the preprocessor does not fit the embedder, or k is below 1.
        """
        if k < 1:
            raise InputError(f"k must be at least 1. Received: {k}")
        features = TextFeatures(preprocess, self.embedder.backbone)
        query = tf.TensorSpec([None], tf.string, name="query")
        count = tf.TensorSpec([None], tf.int32, name="k")
        most = min(k, self.num_documents)

        @tf.function(input_signature=[query], autograph=False)
        def serving_default(query: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.documents(self.find(features, query, most))

        @tf.function(input_signature=[query, count], autograph=False)
        def search(query: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
            k = tf.clip_by_value(k, 1, self.num_documents)
            found = self.find(features, query, tf.reduce_max(tf.concat([k, [1]], 0)))
            asked = tf.range(tf.shape(found.places)[1]) < k[:, None]
            documents = self.documents(found)
            nothing = {"ids": "", "texts": "", "scores": 0.0}
            return {name: tf.where(asked, documents[name], nothing[name]) for name in documents}

        return {"serving_default": serving_default, "search": search}

    def probes(self) -> dict[str, dict[str, list[Any]]]:
        """Give example requests for the signature that takes more than text."""
        return {"search": {"query": ["a cat", "", "猫 🐈"], "k": [1, 3, 2]}}


def _filled(vectors: np.ndarray, name: str) -> tf.Variable:
    """Copy into a variable a block at a time: converted at once, they would be there three times.

    What is read of a mapped file need not stay in memory.
    """
    variable = tf.Variable(tf.zeros(vectors.shape, tf.float32), trainable=False, name=name)
    mapped = getattr(vectors, "_mmap", None)
    for first in range(0, len(vectors), _BLOCK):
        block = np.asarray(vectors[first : first + _BLOCK], np.float32)
        # A slice of the variable that is assigned to would read the variable first, and copy it.
        variable.scatter_update(tf.IndexedSlices(block, tf.range(first, first + len(block))))
        if mapped is not None:
            mapped.madvise(mmap.MADV_DONTNEED)
    # A variable that was scattered into is copied by everyone who reads it.
    tf.raw_ops.DisableCopyOnRead(resource=variable.handle)
    return variable


def _strings(values: Sequence[str], name: str) -> tf.Variable:
    with tf.device("CPU"):
        return tf.Variable(list(values), trainable=False, dtype=tf.string, name=name)
