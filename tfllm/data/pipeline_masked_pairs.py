"""Pairs of texts, masked, as batches of a `tf.data.Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfllm.data.array_store import ArrayStore
from tfllm.data.encoders.row_template import RowTemplate
from tfllm.data.masked_slots import fill_slots
from tfllm.data.masking.masking import Masking
from tfllm.data.pair_layout import PairLayout, lay_out_pairs
from tfllm.data.pair_plan import PairObjective, PairPlan
from tfllm.data.ranges import expand
from tfllm.data.step_batches import StepBatches
from tfllm.data.step_dataset import Batch
from tfllm.data.worker_share import worker_share

__all__ = ["MaskedPairs"]


class MaskedPairs(StepBatches):
    """Pairs of texts out of sentences of a `SentenceEncoder`, as batches for a masked model.

    Rows of a batch are of like length and as wide as the longest. Pairs and masks are drawn for
    each row in each epoch, whatever stands beside it.

    Attributes:
        store: the sentences.
        plan: which rows each step has, and what they hold.
        masking: what is masked.
        objective: what is asked about a pair.
    """

    def __init__(
        self,
        store: ArrayStore,
        masking: Masking,
        *,
        objective: PairObjective,
        single: RowTemplate,
        pair: RowTemplate,
        sequence_length: int,
        global_batch_size: int,
        seed: int | None = None,
        pad_id: int = 0,
    ) -> None:
        """Find the rows.

        Args:
            store: see the class.
            masking: what is masked.
            objective: what is asked about a pair.
            single: special tokens of rows with one text.
            pair: of rows with two.
            sequence_length: positions of the longest row.
            global_batch_size: rows of a step.
            seed: shuffles and draws; None for a fixed order and, in every epoch, the same rows and
                masks.
            pad_id: stands on padding.
        """
        self.store = store
        self.masking = masking
        self.objective = objective
        self.plan = PairPlan(
            store.offsets("input_ids"),
            store.values("document_starts"),
            store.values("chunk_starts"),
            room=sequence_length - pair.added,
            objective=objective,
            global_batch_size=global_batch_size,
            seed=seed,
        )
        self._single, self._pair = single, pair
        self._pad_id = pad_id

    def __str__(self) -> str:
        """Say how much it is, for a person."""
        counts = self.store.manifest.counts
        return (
            f"{counts['documents']:,} documents, {counts['text_bytes']:,} bytes, "
            f"{self._text_tokens:,} tokens in {self.plan.num_rows:,} rows, "
            f"{self.plan.num_pairs:,} of them pairs"
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self.plan.steps_per_epoch

    @property
    def row_tokens(self) -> int:
        """Tokens of a row, on average."""
        return round(self._tokens / max(1, self.plan.num_rows))

    @property
    def tokens_per_step(self) -> int:
        """Tokens that a step computes on, on average and without padding."""
        return round(self._tokens / max(1, self.steps_per_epoch))

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """Make, pad and mask the rows of one step, or one worker's share of them.

        Returns:
            features `input_ids`, `attention_mask` (1 on tokens) and `token_type_ids`,
            `<int32>[rows, width]`, and `masked_positions` `<int32>[rows, slots]`; targets and
            weights by objective: `masked_lm` `[rows, slots]`, and `next_sentence` or
            `sentence_order` `[rows]`, label 0 where the second text follows the first, weight 0 in
            rows of one text. A row that the step lacks repeats another one, with weights of 0.
        """
        chosen = self.plan.rows(step)
        size = chosen.size if self.plan.seed is not None else len(chosen.rows)
        rows = np.concatenate([chosen.rows, np.repeat(chosen.rows[:1], size - len(chosen.rows))])
        epoch = self.plan.epoch(step)
        # The width is that of all rows, so that every worker has the same.
        width = int(self._lay_out(rows, epoch)[0].lengths.max())
        share = worker_share(chosen.size, worker, workers)
        rows, real = rows[share], (np.arange(size) < len(chosen.rows))[share]
        layout, labels, are_pairs = self._lay_out(rows, epoch)
        ids = layout.put(self.store.values("input_ids")[layout.source], layout.special)
        masked = self.masking.draw(
            ids,
            layout.put(self.store.values("word_starts")[layout.source], 1),
            layout.lengths,
            rows,
            seed=self.plan.seed or 0,
            epoch=epoch,
        )
        row, column = expand(np.zeros_like(layout.lengths), layout.lengths)
        slots = fill_slots(row[masked.places], column[masked.places], ids[masked.places], len(rows))
        ids[masked.places] = masked.ids

        def put(values: np.ndarray | int, padding: int) -> np.ndarray:
            laid: np.ndarray = np.full((len(rows), width), padding, np.int32)
            laid[row, column] = values
            return laid

        features = {
            "input_ids": put(ids, self._pad_id),
            "attention_mask": put(1, 0),
            "token_type_ids": put(layout.types, 0),
            "masked_positions": slots.positions,
        }
        weights = slots.weights * real[:, None].astype(np.float32)
        targets = {"masked_lm": slots.targets, self.objective: labels.astype(np.int32)}
        return (
            features,
            targets,
            {
                "masked_lm": weights,
                self.objective: (real & are_pairs).astype(np.float32),
            },
        )

    def signature(self, workers: int = 1) -> Any:
        """Specs in which rows, width and slots are unknown."""
        import tensorflow as tf

        ids = tf.TensorSpec([None, None], tf.int32)
        names = ("input_ids", "attention_mask", "token_type_ids", "masked_positions")
        targets = {"masked_lm": ids, self.objective: tf.TensorSpec([None], tf.int32)}
        weights = {
            "masked_lm": tf.TensorSpec([None, None], tf.float32),
            self.objective: tf.TensorSpec([None], tf.float32),
        }
        return dict.fromkeys(names, ids), targets, weights

    @property
    def _text_tokens(self) -> int:
        return len(self.store.values("input_ids"))

    @property
    def _tokens(self) -> int:
        alone = self.plan.num_rows - self.plan.num_pairs
        special = self.plan.num_pairs * self._pair.added + alone * self._single.added
        return self._text_tokens + special

    def _lay_out(self, rows: np.ndarray, epoch: int) -> tuple[PairLayout, np.ndarray, np.ndarray]:
        pairs = self.plan.pairs(rows, epoch)
        layout = lay_out_pairs(pairs, self._single, self._pair)
        return layout, pairs.labels, pairs.are_pairs
