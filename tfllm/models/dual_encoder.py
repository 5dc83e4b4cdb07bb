"""Embedders of queries and documents, trained so that a query finds its own document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import tensorflow as tf
from transformers import PretrainedConfig

from tfllm.errors import InputError
from tfllm.models.text_embedder import TextEmbedder
from tfllm.models.text_features import token_probes
from tfllm.training.step import SummedLossModel

__all__ = ["DualEncoder", "Towers"]

Towers = Literal["shared", "two"]

_TOWERS = ("query", "document")
# A score that softmax gives no share to; its gradient is 0 and never NaN.
_NEVER = -1e30
# Makes dropout on documents another than on queries.
_OTHER_STREAM = 0x5DEECE66D


class DualEncoder(SummedLossModel):
    """Trains one embedder, or one of queries and one of documents, by in-batch negatives.

    A query's own document competes with all documents of the global batch: those of other queries
    and the hard negatives, gathered over replicas. With vectors q and d the loss of a query is

        −log( exp(q·d⁺ / T) / (exp(q·d⁺ / T) + Σ exp(q·d / T)) )

    where the sum leaves out what is no negative: documents that are known to answer the query,
    its own document where it comes again, documents of rows without weight, and, if a margin is
    given, documents that score above the own one's by more than that. It is summed over queries
    with weight.

    Features are those of `TextEmbedder` with `query_` `<int32>[rows, tokens]` or `document_`
    `<int32>[rows, documents, tokens]` before their names; each row's first document is the right
    one. `document_rows` `<int32>[rows, documents]` tells documents apart, and `relevant_rows`
    `<int32>[rows, known]` lists those that answer the query, filled up with −1. Targets are not
    read.

    A document's vector is made once a step, so micro-batches would each see their own negatives
    only: there is no accumulation.

    Example:
        >>> model = DualEncoder(TextEmbedder.from_pretrained("all-MiniLM-L6-v2"))
        >>> model.compile("adam")
        >>> model.fit(batches.dataset())  # `tfllm.data.RetrievalBatches`

    Reference:
        Henderson et al., Efficient Natural Language Response Suggestion for Smart Reply, 2017,
        arXiv:1705.00652: in-batch negatives. Karpukhin et al., Dense Passage Retrieval, 2020,
        arXiv:2004.04906: hard ones from BM25. Qu et al., RocketQA, 2020, arXiv:2010.08191:
        negatives of all replicas, and leaving out false ones.
    """

    def __init__(
        self,
        query: TextEmbedder,
        document: TextEmbedder | None = None,
        *,
        temperature: float = 0.05,
        false_negative_margin: float | None = None,
        seed: int = 0,
        name: str | None = "dual_encoder",
    ) -> None:
        """Take the embedders, as they are and not copied.

        Args:
            query: embeds queries.
            document: embeds documents; None for the same one.
            temperature: scores are divided by it.
            false_negative_margin: documents that score above the right one by more than this are
                no negatives; in units of the score, a cosine for vectors of length 1. None for
                no such filter.
            seed: decides dropout, together with the optimizer's step.
            name: of the Keras model.

        Raises:
            InputError: if the temperature is not above 0, or the embedders' vectors are not of one
                width.
        """
        super().__init__(seed=seed, name=name)
        if not temperature > 0:
            raise InputError(f"temperature must be above 0. Received: {temperature}")
        document = query if document is None else document
        widths = [tower.config.hidden_size for tower in (query, document)]
        if widths[0] != widths[1]:
            raise InputError(
                f"queries have vectors of {widths[0]} numbers and documents of {widths[1]}. Give "
                "embedders of one width"
            )
        self.query = query
        self.document = document
        self.config = query.config
        self.temperature = temperature
        self.false_negative_margin = false_negative_margin
        self.built = True

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig | Mapping[str, Any],
        *,
        towers: Towers = "shared",
        temperature: float = 0.05,
        false_negative_margin: float | None = None,
        seed: int = 0,
    ) -> DualEncoder:
        """Create embedders with random weights, which are the same in both of two towers.

        Args:
            config: what `TextEmbedder.from_config` takes.
            towers: `shared`: one embedder; `two`: they begin alike and part in training.
            temperature: see the class's arguments, as the two below.
            false_negative_margin: see there.
            seed: see there.

        Raises:
            InputError: if there is no such choice of towers.
        """
        _check_towers(towers)
        embedders = [TextEmbedder.from_config(config) for _ in range(1 + (towers == "two"))]
        embedders[-1].set_weights(embedders[0].get_weights())
        return cls(
            *embedders,
            temperature=temperature,
            false_negative_margin=false_negative_margin,
            seed=seed,
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        towers: Towers = "shared",
        temperature: float = 0.05,
        false_negative_margin: float | None = None,
        seed: int = 0,
        pickle: bool = False,
    ) -> DualEncoder:
        """Load what `save_pretrained` wrote, or make both towers of one embedder.

        Args:
            name_or_folder: a folder with `query` and `document`, or what
                `TextEmbedder.from_pretrained` takes.
            towers: `shared`: one embedder; `two`: they begin alike and part in training.
            temperature: see the class's arguments, as the two below.
            false_negative_margin: see there.
            seed: see there.
            pickle: whether weights that are a pickle may be read.

        Raises:
            InputError: if the weights can't be had, there is no such choice of towers, or a folder
                of two is to be shared.
        """
        _check_towers(towers)
        folders: list[str | Path] = [Path(name_or_folder) / part for part in _TOWERS]
        holds_two = all(Path(folder).is_dir() for folder in folders)
        if holds_two and towers == "shared":
            raise InputError(
                f"{name_or_folder} holds two towers, which can't be shared. Give --towers two, or "
                f"one of them: {folders[0]}"
            )
        names = folders if holds_two else [name_or_folder] * (1 + (towers == "two"))
        return cls(
            *(TextEmbedder.from_pretrained(n, pickle=pickle) for n in names),
            temperature=temperature,
            false_negative_margin=false_negative_margin,
            seed=seed,
        )

    @property
    def towers(self) -> dict[str, TextEmbedder]:
        """The embedders by name: `query` and `document`, or `shared`."""
        if self.query is self.document:
            return {"shared": self.query}
        return {"query": self.query, "document": self.document}

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        *,
        accumulate_steps: int = 1,
        **kwargs: Any,
    ) -> None:
        """Configure training; see `SummedLossModel.compile`.

        Raises:
            InputError: if micro-batches are asked for.
        """
        if accumulate_steps != 1:
            raise InputError(
                "--accumulate_steps must be 1 here: a query's negatives are the documents of the "
                f"whole batch, and micro-batches would hide most of them. Received: "
                f"{accumulate_steps}. Give a smaller --global_batch_size or --sequence_length"
            )
        super().compile(optimizer, loss, metrics, **kwargs)

    def call(self, features: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, Any]:
        """Return the vectors: `query` `[rows, dim]`, `document` `[rows, documents, dim]`."""
        seed = None
        if training and getattr(self, "optimizer", None) is not None:
            seed = self._dropout_seed(0)
        return self._vectors(features, training=training, dropout_seed=seed)

    def loss_sum_and_weight(
        self,
        features: Mapping[str, tf.Tensor],
        targets: tf.Tensor,
        weights: tf.Tensor,
        *,
        training: bool,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum the loss of a replica's queries against the documents of all; see the class."""
        vectors = self._vectors(features, training=training, dropout_seed=dropout_seed)
        queries, documents = vectors["query"], vectors["document"]
        weights = tf.cast(weights, tf.float32)
        own = tf.reduce_sum(queries * documents[:, 0], axis=1, keepdims=True)  # [rows, 1]
        rows = tf.cast(features["document_rows"], tf.int64)
        counted = tf.where(weights[:, None] > 0, rows, -1)
        # The gradient of what is gathered comes back as a sum over all replicas' losses.
        pool = _of_all_replicas(tf.reshape(documents, [-1, documents.shape[-1]]))
        pool_rows = _of_all_replicas(tf.reshape(counted, [-1]))  # [pool]
        scores = tf.matmul(queries, pool, transpose_b=True)  # [rows, pool]
        relevant = tf.concat([rows[:, :1], tf.cast(features["relevant_rows"], tf.int64)], axis=1)
        no_negative = (pool_rows < 0) | tf.reduce_any(relevant[:, :, None] == pool_rows, axis=1)
        if self.false_negative_margin is not None:
            no_negative |= scores > own + self.false_negative_margin
        others = tf.where(no_negative, _NEVER, scores / self.temperature)
        logits = tf.concat([own / self.temperature, others], axis=1)
        losses = tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]
        return tf.reduce_sum(losses * weights), tf.reduce_sum(weights)

    def _vectors(
        self,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        queries = self.query.forward(
            _of_tower(features, "query_"), training=training, dropout_seed=dropout_seed
        )
        shape = tf.shape(features["document_input_ids"])
        flat = {
            name: tf.reshape(values, [-1, shape[2]])
            for name, values in _of_tower(features, "document_").items()
        }
        if dropout_seed is not None:
            dropout_seed += tf.constant([_OTHER_STREAM, 0], tf.int64)
        documents = self.document.forward(flat, training=training, dropout_seed=dropout_seed)
        width = documents.shape[-1]
        return {"query": queries, "document": tf.reshape(documents, [shape[0], shape[1], width])}

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, *, overwrite: bool = False
    ) -> None:
        """Write a folder of sentence-transformers, or of two towers one each below it.

        Args:
            folder: with two towers `query` and `document` are made in it.
            tokenizer: see `TextEmbedder.save_pretrained`.
            overwrite: replace a folder that exists.

        Raises:
            InputError: if a folder exists or can't be written.
        """
        for name, tower in self.towers.items():
            place = Path(folder) if name == "shared" else Path(folder) / name
            tower.save_pretrained(place, tokenizer, overwrite=overwrite)

    def signatures(self, preprocess: Any) -> dict[str, Any]:
        """Give the functions that a bundle serves.

        Args:
            preprocess: see `TextEmbedder.signatures`.

        Returns:
            of a shared tower what `TextEmbedder.signatures` gives. Of two: `query` and `document`,
            `text` `<string>[batch]` → `vector` `<float32>[batch, hidden_dim]` each, and under
            `serving_default` the query's.

        Raises:
            InputError: if the preprocessor does not fit.
        """
        if self.query is self.document:
            return self.query.signatures(preprocess)
        of_query, of_document = (
            tower.signatures(preprocess)["serving_default"] for tower in self.towers.values()
        )
        return {"serving_default": of_query, "query": of_query, "document": of_document}

    def probes(self) -> dict[str, dict[str, list[Any]]]:
        """Give example requests for the signature that takes more than text."""
        shared = self.query is self.document
        return {"tokens": token_probes(self.query.backbone)} if shared else {}


def _check_towers(towers: str) -> None:
    if towers not in get_args(Towers):
        raise InputError(f"towers must be shared or two. Received: {towers}")


def _of_tower(features: Mapping[str, tf.Tensor], prefix: str) -> dict[str, tf.Tensor]:
    """What an embedder reads, under its own names."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: features[prefix + name] for name in names if prefix + name in features}


def _of_all_replicas(rows: tf.Tensor) -> tf.Tensor:
    """Put the rows of all replicas one below the other; the same on each of them."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return rows
    return context.all_gather(rows, axis=0)
