"""Queries with documents that answer them and some that do not, as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfllm.data.array_store import ArrayStore
from tfllm.data.judged import JudgedPairs
from tfllm.data.padded_rows import padded_rows
from tfllm.data.permutation import permuted
from tfllm.data.random_bits import random_bits
from tfllm.data.row_plan import RowPlan
from tfllm.data.step_batches import StepBatches
from tfllm.data.step_dataset import Batch
from tfllm.errors import InputError

__all__ = ["RetrievalBatches"]


class RetrievalBatches(StepBatches):
    """Each row is a query, a document that answers it, and some that do not.

    Each judged pair is a row once in an epoch. Its negatives are drawn from the query's hard ones,
    none twice; where there are too few, from the whole corpus. What is drawn follows from the
    seed, the epoch and the pair alone.

    Attributes:
        store: the queries.
        documents: the corpus.
        pairs: what belongs together, by rows of the two.
        plan: which pairs each step reads.
        num_negatives: of a row.
    """

    def __init__(
        self,
        queries: ArrayStore,
        documents: ArrayStore,
        pairs: JudgedPairs,
        *,
        features: Sequence[str],
        num_negatives: int,
        global_batch_size: int,
        seed: int,
    ) -> None:
        """Plan the steps.

        Args:
            queries: with the columns of `features`.
            documents: with the same.
            pairs: by rows of `queries` and `documents`.
            features: ragged columns that a model takes, `input_ids` first.
            num_negatives: of a row, 0 or more.
            global_batch_size: rows of a step.
            seed: decides order and draws.

        Raises:
            InputError: if there are no pairs, or a number makes no sense.
        """
        if not len(pairs):
            raise InputError("no query has a document that answers it. Judge some above 0")
        if num_negatives < 0:
            raise InputError(f"num_negatives must not be negative. Received: {num_negatives}")
        self.store = queries
        self.documents = documents
        self.pairs = pairs
        self.num_negatives = num_negatives
        self.plan = RowPlan(len(pairs), global_batch_size, seed)
        self._features = tuple(features)
        self._seed = seed
        self._available = (pairs.negatives >= 0).sum(axis=1)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self.plan.steps_per_epoch

    @property
    def row_tokens(self) -> int:
        """Tokens of a document, on average; a query has fewer."""
        return round(float(self.documents.lengths(self._features[0]).mean()))

    @property
    def tokens_per_step(self) -> int:
        """Tokens that a step computes on, on average and without padding."""
        of_query = float(self.store.lengths(self._features[0]).mean())
        of_documents = (1 + self.num_negatives) * self.row_tokens
        return round(len(self.pairs) / self.steps_per_epoch * (of_query + of_documents))

    def identity(self) -> dict[str, str]:
        """Say what a run that is continued must find as it was: the corpus and the pairs too."""
        more = {"documents": self.documents.manifest.source, "pairs": self.pairs.digest()}
        return super().identity() | more

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Gather the rows of one step, or one worker's share of them.

        Returns:
            features: each column and `attention_mask`, as `query_…` `<int32>[rows, width]` and
            `document_…` `<int32>[rows, 1 + negatives, width]`, the right document first;
            `document_rows` `<int32>[rows, 1 + negatives]`, which documents these are;
            `relevant_rows` `<int32>[rows, most]`, all that answer the query, filled up with −1.
            Targets `<int32>[rows]` are the right documents, weights `<float32>[rows]` are 1. A row
            that the step lacks repeats another one, with weight 0.

        Example:
            one pair of query 5 6 and document 7, and the negative 8 9 → query_input_ids 5 6,
            document_input_ids 7 0 | 8 9, document_attention_mask 1 0 | 1 1.
        """
        chosen = self.plan.rows(step, worker, workers)
        spare = chosen.rows[:1] if len(chosen.rows) else np.zeros(1, np.int64)
        rows = np.concatenate([chosen.rows, np.repeat(spare, chosen.size - len(chosen.rows))])
        queries, documents = self.pairs.queries[rows], self.pairs.documents[rows]
        epoch = step // self.steps_per_epoch
        columns = np.concatenate([documents[:, None], self._negatives(rows, epoch)], axis=1)
        features = self._gathered(self.store, "query_", queries)
        features |= {
            name: values.reshape([*columns.shape, -1])
            for name, values in self._gathered(self.documents, "document_", columns.ravel()).items()
        }
        features["document_rows"] = columns.astype(np.int32)
        relevant = self.pairs.relevant[queries]
        width = max(1, int((relevant >= 0).sum(axis=1).max(initial=0)))
        features["relevant_rows"] = relevant[:, :width].astype(np.int32)
        weights = (np.arange(chosen.size) < len(chosen.rows)).astype(np.float32)
        return features, documents.astype(np.int32), weights

    def signature(self, workers: int = 1) -> Any:
        """Specs in which rows and widths are unknown."""
        import tensorflow as tf

        names = (*self._features, "attention_mask")
        columns = 1 + self.num_negatives
        features = {f"query_{name}": tf.TensorSpec([None, None], tf.int32) for name in names}
        of_document = tf.TensorSpec([None, columns, None], tf.int32)
        features |= {f"document_{name}": of_document for name in names}
        features["document_rows"] = tf.TensorSpec([None, columns], tf.int32)
        features["relevant_rows"] = tf.TensorSpec([None, None], tf.int32)
        return features, tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)

    def _gathered(self, store: ArrayStore, prefix: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        found = {name: padded_rows(store, name, rows) for name in self._features}
        features = {prefix + name: values for name, (values, _) in found.items()}
        features[f"{prefix}attention_mask"] = found[self._features[0]][1]
        return features

    def _negatives(self, pairs: np.ndarray, epoch: int) -> np.ndarray:
        """Draw the negatives of some pairs, `<int64>[pairs, num_negatives]`."""
        count = self.num_negatives
        pair = np.repeat(pairs, count)
        number = np.tile(np.arange(count), len(pairs))
        query = self.pairs.queries[pair]
        available = self._available[query]
        bits = random_bits("negative", self._seed, epoch, pair, number)
        drawn = (bits % np.uint64(len(self.documents))).astype(np.int64)
        hard = number < available
        places = permuted(number[hard], available[hard], self._seed, epoch, pair[hard] + 1)
        drawn[hard] = self.pairs.negatives[query[hard], places]
        return drawn.reshape([len(pairs), count])
