"""A language model that predicts the next token: a GPT-2 backbone and a head of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config, TFGPT2Model

from tfllm.errors import InputError
from tfllm.generation.beam import Beam
from tfllm.generation.checks import check_beam, check_one_mode, check_sampling
from tfllm.generation.rules import Rules
from tfllm.generation.sampling import Sampling
from tfllm.generation.stop_strings import StopStrings
from tfllm.generation.stream import stream
from tfllm.losses import linear_cross_entropy
from tfllm.models import checkpoint_files, gpt2, gpt2_weights
from tfllm.models.embedding_rows import embedding_rows
from tfllm.models.generation_functions import GenerationFunctions
from tfllm.models.generation_prompts import (
    begun_ids,
    check_prompts,
    check_request,
    given_ids,
    is_texts,
    one_prompt,
    prompt_ids,
    required,
    stop_strings,
    text_of,
    word_bytes,
)
from tfllm.models.generation_request import GenerationRequest
from tfllm.models.generation_signatures import GenerationSignatures, generation_probes
from tfllm.models.likelihoods import Likelihoods
from tfllm.models.target_likelihoods import target_log_likelihoods
from tfllm.models.text_pieces import TextPieces
from tfllm.training.step import SummedLossModel

__all__ = ["CausalLM"]

_FEATURES = ("input_ids", "attention_mask", "position_ids", "segment_ids")


class CausalLM(SummedLossModel):
    """Maps token ids to the logits of each next token, through a `TFGPT2Model`.

    Features are a dictionary of `<int32>[batch, positions]` tensors: `input_ids`, and where they
    are needed `attention_mask` (1 real, 0 padding, on either side or in the middle),
    `position_ids`, `segment_ids` (packed documents do not see each other); or `input_ids` alone.
    A batch for `fit` is `(features, targets, weights)`: `targets[b, t]` is the id that follows
    position t, `weights[b, t]` is 0 where nothing is to be learnt.

    `model(features)` and Keras losses and metrics see the logits of all positions; `predict` gives
    those of what comes next after each row, `<float32>[rows, words]`.

    The head is the transposed word embedding, or a matrix of its own where the configuration says
    `tie_word_embeddings: false`.

    Example:
        >>> model = CausalLM.from_config(GPT2Config(vocab_size=10, n_embd=8, n_layer=2, n_head=2))
        >>> model(tf.constant([[1, 2, 3]])).shape
        TensorShape([1, 3, 10])
        >>> model.compile(optimizer="adam")
        >>> model.fit(batches)  # doctest: +SKIP

    Reference:
        Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
    """

    def __init__(
        self, backbone: TFGPT2Model, *, seed: int = 0, name: str | None = "causal_lm"
    ) -> None:
        """Put a head on a backbone.

        Args:
            backbone: its `config.tie_word_embeddings` decides the head. It is used as it is, not
                copied.
            seed: decides dropout, together with the optimizer's step.
            name: of the Keras model.
        """
        super().__init__(seed=seed, name=name)
        if not backbone.built:
            backbone.build_in_name_scope()
        self.config = backbone.config
        self.backbone = backbone
        self.lm_head = None
        if not self.config.tie_word_embeddings:
            self.lm_head = self.add_weight(
                name="lm_head",
                shape=[self.config.vocab_size, self.config.n_embd],
                initializer=keras.initializers.TruncatedNormal(
                    stddev=self.config.initializer_range
                ),
                experimental_autocast=False,  # logits are float32 under every policy
            )
        self.built = True

    @classmethod
    def from_config(cls, config: GPT2Config | Mapping[str, Any], *, seed: int = 0) -> CausalLM:
        """Create a model with GPT-2's random initial weights (see `gpt2.create_backbone`).

        Args:
            config: a `GPT2Config`, or its dictionary.
            seed: decides dropout. The initial weights follow `keras.utils.set_random_seed`.
        """
        if isinstance(config, Mapping):
            config = GPT2Config(**config)
        return cls(gpt2.create_backbone(config), seed=seed)

    def get_config(self) -> dict[str, Any]:
        """Return the backbone's configuration, which `from_config` takes."""
        return self.config.to_dict()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, seed: int = 0) -> CausalLM:
        """Load a GPT-2 from a transformers folder or from the hub.

        Reads `config.json` and safetensors of PyTorch's layout; torch need not be installed.

        Raises:
            InputError: if the weights are missing, damaged, or another architecture's.
        """
        found = checkpoint_files.read_config(name_or_folder, "gpt2")
        _check_counts(found, name_or_folder)
        config = GPT2Config(**found)
        tensors = checkpoint_files.read_weights(name_or_folder)
        model = cls.from_config(config, seed=seed)
        gpt2_weights.assign_weights(model._weight_table(), tensors, source=str(name_or_folder))
        return model

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, *, overwrite: bool = False
    ) -> None:
        """Write a folder that transformers loads, in PyTorch too.

        Args:
            folder: a new one; it appears whole or not at all.
            tokenizer: a `tfllm.text.Tokenizer`, whose files are put beside the weights.
            overwrite: replace a folder that exists.

        Raises:
            InputError: if the folder exists or can't be written.
        """
        config = self.config.to_diff_dict() | {"architectures": ["GPT2LMHeadModel"]}
        weights = gpt2_weights.collect_weights(self._weight_table())
        checkpoint_files.write_folder(folder, config, weights, tokenizer, overwrite=overwrite)

    def with_vocabulary(self, sources: Sequence[Sequence[int]], tokenizer: Any = None) -> CausalLM:
        """Make a model with another vocabulary and the same blocks; this one stays as it is.

        Args:
            sources: for each new word, the words of this model whose embeddings' mean it starts
                with; see `tfllm.text.extend` and `tfllm.text.sources_of`. Its length is the new
                vocabulary's size.
            tokenizer: the new one, from which start and end token go into the configuration.

        Raises:
            InputError: if a source is no word of this model.
        """
        words = self.config.vocab_size
        strange = sorted({i for pieces in sources for i in pieces if not 0 <= i < words})
        if strange:
            raise InputError(f"sources name the word {strange[0]}, and this model has {words}")
        config = GPT2Config(**self.config.to_dict() | {"vocab_size": len(sources)})
        if tokenizer is not None:
            config.bos_token_id, config.eos_token_id = tokenizer.bos_id, tokenizer.eos_id
        tensors = gpt2_weights.collect_weights(self._weight_table())
        for name in ("transformer.wte.weight", "lm_head.weight"):
            if name in tensors:
                tensors[name] = embedding_rows(tensors[name], sources, self.seed)
        model = CausalLM.from_config(config, seed=self.seed)
        gpt2_weights.assign_weights(model._weight_table(), tensors, source="this model")
        return model

    def _weight_table(self) -> list[gpt2_weights.NamedWeight]:
        return gpt2_weights.weight_table(self.backbone, self.lm_head)

    def call(self, features: Any, training: bool = False) -> tf.Tensor:
        """Return the logits of each next token, `<float32>[batch, positions, words]`."""
        features = _as_features(features)
        seed = None
        if training and getattr(self, "optimizer", None) is not None:
            seed = self._dropout_seed(0)
        hidden = self.hidden_states(features, training=training, dropout_seed=seed)
        return self.logits(hidden)

    def hidden_states(
        self,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return the backbone's last states, `<float>[batch, positions, hidden_dim]`."""
        return gpt2.hidden_states(
            self.backbone,
            features["input_ids"],
            attention_mask=features.get("attention_mask"),
            position_ids=features.get("position_ids"),
            segment_ids=features.get("segment_ids"),
            training=training,
            dropout_seed=dropout_seed,
        )

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Turn `<float>[…, hidden_dim]` into `<float32>[…, words]`."""
        hidden = tf.cast(hidden, tf.float32)
        flat = tf.reshape(hidden, [-1, self.config.n_embd])
        scores = tf.matmul(flat, self._head_table(), transpose_b=True)
        shape = tf.concat([tf.shape(hidden)[:-1], [self.config.vocab_size]], axis=0)
        scores = tf.reshape(scores, shape)
        return tf.ensure_shape(scores, [*hidden.shape[:-1], self.config.vocab_size])

    def _next_logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Do what `logits` does for a token a row, `<float>[batch, hidden_dim]`, and sooner.

        TensorFlow's product with a transposed matrix takes twice as long as its batched product
        where there are a few rows; with one row it is the other way round.
        """
        hidden = tf.cast(hidden, tf.float32)
        table = self._head_table()
        scores = tf.cond(
            tf.shape(hidden)[0] <= 2,
            lambda: tf.matmul(hidden, table, transpose_b=True),
            lambda: tf.raw_ops.BatchMatMulV2(x=hidden, y=table, adj_y=True),
        )
        return tf.ensure_shape(scores, [hidden.shape[0], self.config.vocab_size])

    def _head_table(self) -> tf.Tensor:
        """`<float32>[words, hidden_dim]`."""
        table = self.lm_head if self.lm_head is not None else self._word_embeddings()
        return tf.cast(table, tf.float32)

    def _word_embeddings(self) -> tf.Variable:
        return self.backbone.transformer.wte.embeddings

    def loss_sum_and_weight(
        self,
        features: Any,
        targets: tf.Tensor,
        weights: tf.Tensor,
        *,
        training: bool,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum the cross-entropy of the targets, in nats, and their weights.

        Logits are made only where the weight is not 0, and never all at once.

        Args:
            features: see the class.
            targets: `<int>[batch, positions]`.
            weights: `<float>[batch, positions]`.
            training: whether dropout acts and a gradient will be asked for.
            dropout_seed: `<int64>[2]`.

        Returns:
            `Σ weights · loss` and `Σ weights`, `<float32>[]` each.
        """
        hidden = self.hidden_states(
            _as_features(features), training=training, dropout_seed=dropout_seed
        )
        weights = tf.cast(weights, tf.float32)
        rows = [tf.reshape(hidden, [-1, hidden.shape[-1]]), *_flat(targets, weights)]
        if not self.jit_compile:  # XLA has no shapes that depend on numbers
            learnt = rows[2] != 0.0
            rows = [tf.boolean_mask(t, learnt) for t in rows]
        hidden, targets, counted = rows
        loss = linear_cross_entropy(
            hidden,
            self._head_table(),
            targets,
            counted,
            differentiable=training,
            equal_chunks=bool(self.jit_compile),
        )
        return loss, tf.reduce_sum(weights)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Give `predict` what comes next after each row: `<float32>[batch, words]` logits.

        The logits of all positions of all rows would fill memory; they are `model(features)`.
        """
        features, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        features = _as_features(features)
        hidden = self.hidden_states(features)
        mask = features.get("attention_mask")
        if mask is None:
            return self.logits(hidden[:, -1])
        steps = tf.range(tf.shape(mask)[1])
        last = tf.reduce_max(tf.where(tf.cast(mask, tf.bool), steps, 0), axis=1)
        return self.logits(tf.gather(hidden, last, batch_dims=1))

    def signatures(
        self,
        tokenizer: Any,
        *,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        beam: Beam | None = None,
    ) -> dict[str, Any]:
        """Give the functions that a bundle serves, text in and text out.

        A prompt that leaves no room for its new tokens loses its beginning; an empty one begins
        with the tokenizer's start token, and where it has none, is refused. The reply is the
        continuation alone, and the same whatever prompts are beside it.

        Args:
            tokenizer: a `tfllm.text.Tokenizer` of this model's vocabulary.
            max_new_tokens: of `serving_default`, and the most that `generate` gives. None for 48,
                or half the positions where these are fewer.
            sampling: of `serving_default`; None for the likeliest token.
            beam: of `serving_default`, in place of `sampling`; its best continuation is given.

        Returns:
            `serving_default`: `text` `<string>[batch]` → `text` `<string>[batch]`.
            `generate`: the same with `max_new_tokens`, `top_k`, `seed` (`<int32>[batch]`) and
            `temperature`, `top_p` (`<float32>[batch]`) of each row, and where the tokenizer's
            words are bytes `stop` (`<string>[batch, stops]`, "" for none).
            `score`: `text` → `log_likelihood` `<float32>[batch]`, in nats, and `tokens`
            `<int32>[batch]`, how many it is of; of a text longer than the positions its beginning.
            `tokenize`: `text` → `input_ids` `<int32>[batch, longest]`, -1 behind a row's end.
            `tokens`: `input_ids` like that → `output_ids` `<int32>[batch, longest]`, new ids
            alone, otherwise as `serving_default`.

        Raises:
            InputError: if the tokenizer has more words than the model, `max_new_tokens` leaves a
                prompt no position, or both `sampling` and `beam` are given.
        """
        check_one_mode(sampling, beam)
        check_sampling(sampling)
        if beam is not None:
            check_beam(beam)
            beam = beam._replace(num_returned=1)
        if tokenizer.vocabulary_size > self.config.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocabulary_size} words and the model "
                f"{self.config.vocab_size}: they do not belong together"
            )
        most = (
            max_new_tokens
            if max_new_tokens is not None
            else max(1, min(48, self.max_positions // 2))
        )
        if not 1 <= most <= self.max_positions:
            raise InputError(
                f"max_new_tokens must be between 1 and the model's {self.max_positions} positions. "
                f"Received: {max_new_tokens}"
            )
        return GenerationSignatures(self, tokenizer, most, sampling, beam).functions()

    def probes(self, tokenizer: Any = None) -> dict[str, dict[str, list[Any]]]:
        """Give example requests for the signatures that take more than text.

        Where a prompt without tokens can't be answered, none is among them; the default signature
        then has requests here too.

        Args:
            tokenizer: as in `signatures`; None for one whose words are bytes and which has a start
                token.
        """
        return generation_probes(tokenizer)

    @property
    def max_positions(self) -> int:
        """Positions that a row may have."""
        return self.config.n_positions

    def read_prompt(
        self, input_ids: tf.Tensor, attention_mask: tf.Tensor, columns: tf.Tensor
    ) -> tuple[tf.Tensor, list[gpt2.KeyValues]]:
        """Run left-padded prompts for the decode loop (see `generation.decode.Decodable`)."""
        hidden, key_values = gpt2.prefill(self.backbone, input_ids, attention_mask=attention_mask)
        room = columns - tf.shape(input_ids)[1]
        padding = [[0, 0], [0, 0], [0, room], [0, 0]]
        cache = [gpt2.KeyValues(*(tf.pad(t, padding) for t in pair)) for pair in key_values]
        return self._next_logits(hidden[:, -1]), cache

    def read_token(
        self,
        token: tf.Tensor,
        position: tf.Tensor,
        visible: tf.Tensor,
        cache: list[gpt2.KeyValues],
        column: tf.Tensor,
        transposed: gpt2.Transposed | None = None,
    ) -> tuple[tf.Tensor, list[gpt2.KeyValues]]:
        """Run one more token of each row (see `generation.decode.Decodable`).

        With `gpt2.transposed_projections` the same, sooner where there are several rows.
        """
        hidden, cache = gpt2.decode_step(
            self.backbone, token, position, visible, cache, column, transposed
        )
        return self._next_logits(hidden[:, -1]), cache

    def generate(
        self,
        prompts: Any,
        *,
        tokenizer: Any = None,
        max_new_tokens: int | tf.Tensor = 64,
        sampling: Sampling | None = None,
        rules: Rules | None = None,
        beam: Beam | None = None,
        stop: Sequence[str] | StopStrings | None = None,
        eos_id: int | None = None,
        slide: bool = False,
    ) -> Any:
        """Continue each prompt; the same code in Python, in a graph and in a bundle.

        In eager Python it runs as one graph for each mode, that is for which settings are given
        and not for what they are; no batch and no length traces it again.

        Args:
            prompts: texts, for which a tokenizer is needed; or ids `<int32>[batch, (positions)]`,
                ragged or dense, no row empty.
            tokenizer: a `tfllm.text.Tokenizer`. An empty text begins with its start token.
            max_new_tokens: at most so many for each row, `<int32>[]` or `[batch]`.
            sampling: how the next token is chosen; None for the likeliest one.
            rules: what a continuation must, may not, or should rather not contain.
            beam: search for likely continuations; not together with `sampling`.
            stop: texts that end a row: with a tokenizer plain ones, else `StopStrings`. They are
                no part of a resulting text; resulting ids hold the token that completed one.
            eos_id: a row ends when it is produced, and it is not part of the result; None for the
                tokenizer's end token, where there is a tokenizer.
            slide: let a prompt that leaves no room for new tokens lose its beginning.

        Returns:
            The continuations alone: of texts a list of texts (inside a graph `<string>[batch]`),
            of ids `<int32>[batch, (new tokens)]`. A beam that returns several gives a list of
            them for each prompt, best first, or `[batch, num_returned, (new tokens)]`.

        Raises:
            InputError: if a setting can't be meant, a prompt is empty where there is no start
                token, or prompt and new tokens exceed the backbone's positions.
            InvalidArgumentError: for such prompts inside a graph.
        """
        check_one_mode(sampling, beam)
        ids, eos_id, is_text = self._prompt_ids(prompts, tokenizer, eos_id)
        stop = stop_strings(stop, tokenizer)
        request = GenerationRequest(ids, max_new_tokens, sampling, rules, beam, stop, eos_id, slide)
        if tf.executing_eagerly():
            check_request(request, self.config.vocab_size, self.max_positions)
            new = self._functions().generate(request)
        else:
            new = request.run(self)
        return text_of(tokenizer, new, stop) if is_text else new

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        tokenizer: Any,
        max_new_tokens: int = 64,
        sampling: Sampling | None = None,
        rules: Rules | None = None,
        stop: Sequence[str] = (),
        eos_id: int | None = None,
        slide: bool = False,
    ) -> Iterator[str]:
        """Give the text that `generate` gives, piece by piece as its tokens come.

        A piece holds whole characters; what may be the beginning of a stop string waits.

        Args:
            prompt: one text, or its ids.
            tokenizer: of which the bytes of each word are known: a `ByteLevelBPE`.
            max_new_tokens: at most so many.
            sampling: as in `generate`.
            rules: as in `generate`.
            stop: as in `generate`.
            eos_id: as in `generate`.
            slide: as in `generate`.

        Yields:
            pieces of text, none empty.

        Raises:
            InputError: as `generate`, before anything is generated.
        """
        ids, eos_id, _ = self._prompt_ids(one_prompt(prompt), tokenizer, eos_id, always=True)
        words = word_bytes(tokenizer)
        found = stop_strings(stop or None, tokenizer)
        request = GenerationRequest(
            ids, max_new_tokens, sampling, rules, None, found, eos_id, slide
        )
        # The settings themselves are checked by `stream`.
        check_prompts(request, self.config.vocab_size, self.max_positions)
        settings = request._asdict()
        del settings["beam"]
        steps = stream(self, **settings, functions=self._functions().stream)
        return _pieces(steps, words.numpy(), TextPieces(list(stop)))

    def score(self, texts: Any, *, tokenizer: Any = None, batch_size: int = 8) -> Likelihoods:
        """Say how likely the model finds texts.

        Rows of like length go together, logits are made in chunks, and nothing is traced twice.

        Args:
            texts: texts, for which a tokenizer is needed; or rows of ids, ragged or dense. A text
                begins with the tokenizer's start token, where it has one, so that its first token
                counts as well; the first id of a row does not.
            tokenizer: a `tfllm.text.Tokenizer`.
            batch_size: rows at once.

        Raises:
            InputError: if a text has more tokens than the backbone has positions.
        """
        if is_texts(texts, tokenizer):
            ids = begun_ids(required(tokenizer), texts)
        else:
            ids = given_ids(texts)
        rows = [np.asarray(row, np.int32) for row in ids.to_list()]
        for i, row in enumerate(rows):
            if len(row) > self.max_positions:
                raise InputError(
                    f"text {i} has {len(row)} tokens, and the model {self.max_positions} "
                    "positions. Cut it"
                )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(
                f"batch_size must be a whole number of at least 1. Received: {batch_size}"
            )
        found: list[np.ndarray] = [np.zeros([0], np.float32)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        score = self._functions().score
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            lengths = [len(rows[i]) for i in chosen]
            padded = np.zeros([len(chosen), max(1, *lengths)], np.int32)
            for row, i in zip(padded, chosen, strict=True):
                row[: len(rows[i])] = rows[i]
            likelihoods = score(padded, np.array(lengths, np.int32)).numpy()
            for row, i, length in zip(likelihoods, chosen, lengths, strict=True):
                found[i] = row[: max(0, length - 1)]
        return Likelihoods.of(found)

    def token_log_likelihoods(self, input_ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Say how likely each token is after those before it.

        Args:
            input_ids: `<int32>[batch, positions]`; what stands behind a row's length is padding.
            lengths: `<int32>[batch]`.

        Returns:
            `<float32>[batch, positions - 1]`, in nats: column t is of the token at t + 1. 0 where
            there is none.
        """
        # Padding on the right is seen by nobody: attention looks to the left.
        hidden = self.hidden_states({"input_ids": input_ids})[:, :-1]
        targets = input_ids[:, 1:]
        there = tf.range(tf.shape(targets)[1]) < lengths[:, None] - 1
        likelihoods = target_log_likelihoods(
            tf.cast(tf.boolean_mask(hidden, there), tf.float32),
            self._head_table(),
            tf.boolean_mask(targets, there),
        )
        return tf.scatter_nd(tf.where(there), likelihoods, tf.shape(there, tf.int64))

    def _prompt_ids(
        self, prompts: Any, tokenizer: Any, eos_id: int | None, *, always: bool = False
    ) -> tuple[tf.RaggedTensor, int | None, bool]:
        """Ids of prompts, the end token, and whether they are texts."""
        if eos_id is None and tokenizer is not None:
            eos_id = tokenizer.eos_id
        if is_texts(prompts, tokenizer):
            return prompt_ids(required(tokenizer), prompts), eos_id, True
        return given_ids(prompts), eos_id, always

    def _functions(self) -> GenerationFunctions:
        """The functions traced so far, if they still go through this model's layers."""
        layers = gpt2.projections(self.backbone)
        kept = self.__dict__.get("_generation_functions")
        if kept is None or not kept.fit(layers):
            kept = GenerationFunctions(self, layers)
            # Past Keras's tracking: it is no part of the model.
            object.__setattr__(self, "_generation_functions", kept)
        return kept


def _pieces(steps: Iterator[np.ndarray], words: np.ndarray, pieces: TextPieces) -> Iterator[str]:
    for step in steps:
        token = int(step[0])
        if piece := pieces.add(words[token] if token < len(words) else b""):
            yield piece
    if piece := pieces.end():
        yield piece


def _check_counts(config: Mapping[str, Any], source: str | Path) -> None:
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
        count = config.get(name, 1)
        if not isinstance(count, int) or count < 1:
            raise InputError(
                f"{name} in the config.json of {source} must be a whole number of at least 1. "
                f"Received: {count!r:.40}"
            )


def _as_features(features: Any) -> Mapping[str, tf.Tensor]:
    if not isinstance(features, Mapping):
        return {"input_ids": tf.convert_to_tensor(features)}
    unknown = sorted(set(features) - set(_FEATURES))
    if unknown or "input_ids" not in features:
        raise ValueError(
            f"features must hold input_ids and may hold {', '.join(_FEATURES[1:])}. "
            f"Received: {', '.join(sorted(features))}"
        )
    return features


def _flat(*tensors: tf.Tensor) -> list[tf.Tensor]:
    return [tf.reshape(tensor, [-1]) for tensor in tensors]
