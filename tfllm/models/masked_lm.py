"""A model that fills in masked words: an encoder backbone and its head for pretraining."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from transformers import AutoConfig, PretrainedConfig, TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.layers.pooling import pool
from tfllm.losses import linear_cross_entropy_and_hits
from tfllm.models.backbones import (
    create_backbone,
    drop_pooler,
    hidden_states,
    load_backbone,
    load_heads,
    pretrained_tensors,
    save_folder,
    traits,
    without_head,
)
from tfllm.models.backbones.families import family_of
from tfllm.models.backbones.reading import read_tensors
from tfllm.models.backbones.weights import assign, layer_weights, weight_table
from tfllm.models.embedding_rows import embedding_rows
from tfllm.models.likelihoods import Likelihoods
from tfllm.models.mask_filling import MaskFilling, likeliest_words
from tfllm.models.masked_heads import MaskedHead, PairHead, native_pair_objective, torch_tensors
from tfllm.models.pseudo_likelihoods import PseudoLikelihoods
from tfllm.models.text_features import TextFeatures, token_probes
from tfllm.training.step import SummedLossModel

__all__ = ["MaskedLM"]

_MASKED_LM = "masked_lm"
_PAIR_OBJECTIVES = ("next_sentence", "sentence_order")
_OWN_KEY = "tfllm_objectives"


class MaskedLM(SummedLossModel):
    """Maps rows of tokens to the logits of all words at the masked ones.

    Features are `<int32>[rows, tokens]`: `input_ids` (masks applied), `attention_mask`,
    `token_type_ids` where the backbone knows them, `segment_ids` and `position_ids` where rows are
    packed; and `masked_positions` `<int32>[rows, slots]`, the places to be predicted (unused slots
    have weight 0). A batch for `fit` is `(features, targets, weights)`, the last two dictionaries:

    | objective        | targets                | label                      |
    |------------------|------------------------|----------------------------|
    | `masked_lm`      | `<int32>[rows, slots]` | the word that was there    |
    | `next_sentence`  | `<int32>[rows]`        | 0 really follows, 1 random |
    | `sentence_order` | `<int32>[rows]`        | 0 in order, 1 swapped      |

    Weights are `<float32>` of the same shapes. The loss is `Σ share · mean cross-entropy`, each
    mean over the weight of the whole global batch; see `SummedLossModel`. Logits of words are made
    only at places with weight.

    The heads are those of transformers' `…ForMaskedLM` and `…ForPreTraining`, of each family its
    own: BERT, RoBERTa, XLM-RoBERTa, DistilBERT, ALBERT and ELECTRA's generator.

    Example:
        >>> model = MaskedLM.from_pretrained("bert-base-uncased")
        >>> model({"input_ids": ids, "masked_positions": [[4]]}).shape
        TensorShape([1, 1, 30522])

    Reference:
        Devlin et al., BERT, 2018, arXiv:1810.04805; Lan et al., ALBERT, 2019, arXiv:1909.11942
        (sentence order).
    """

    def __init__(
        self,
        backbone: TFPreTrainedModel,
        *,
        objectives: Sequence[str] | Mapping[str, float] = (_MASKED_LM,),
        seed: int = 0,
        name: str | None = "masked_lm",
    ) -> None:
        """Put new heads on a backbone.

        Args:
            backbone: a TF model of transformers without a head. It is used as it is, not copied.
                Its pooler, where it has one and no pair is judged, stays as it is.
            objectives: what is learnt, each with its share of the loss; names alone for 1 each.
            seed: decides dropout, together with the optimizer's step. The heads' initial weights
                follow `keras.utils.set_random_seed`.
            name: of the Keras model.

        Raises:
            InputError: if the backbone has no head for masked words or for pairs, or there is no
                such objective.
        """
        super().__init__(seed=seed, name=name)
        if not backbone.built:
            backbone.build_in_name_scope()
        self.config = backbone.config
        self.backbone = backbone
        # As text, because Keras wraps dictionaries that a model has.
        self._objectives = json.dumps(_checked_objectives(objectives))
        self.head = MaskedHead(backbone)
        self.pair_head = PairHead(backbone) if self._pair_objective else None
        pooler = _pooler_of(backbone)
        if pooler is not None and self.pair_head is None:
            pooler.trainable = False  # without a gradient it would only decay
        self.built = True

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig | Mapping[str, Any],
        *,
        objectives: Sequence[str] | Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> MaskedLM:
        """Create a model with random weights.

        Args:
            config: a configuration of transformers, or its dictionary with `model_type`.
            objectives: None for those that the dictionary names; without any, masked words alone.
            seed: see the class.
        """
        if isinstance(config, Mapping):
            config = AutoConfig.for_model(**config)
        objectives = objectives or getattr(config, _OWN_KEY, None) or (_MASKED_LM,)
        backbone = create_backbone(config)
        if not _pair_of(_checked_objectives(objectives)):
            drop_pooler(backbone)
        return cls(backbone, objectives=objectives, seed=seed)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration, which `from_config` takes."""
        return without_head(self.config.to_dict()) | {_OWN_KEY: dict(self.objectives)}

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        objectives: Sequence[str] | Mapping[str, float] | None = None,
        seed: int = 0,
        pickle: bool = False,
    ) -> MaskedLM:
        """Load a transformers folder, or a model of the hub, to go on pretraining it.

        Heads that it lacks are new ones, and a line says so.

        Args:
            name_or_folder: what `backbones.load_backbone` takes; made by PyTorch or TensorFlow.
            objectives: None for those that this class saved; else masked words, and what the
                checkpoint's head for pairs learnt where it holds one.
            seed: see the class.
            pickle: whether weights that are a pickle may be read.

        Raises:
            InputError: if the weights can't be had, the family has no such head, or a head lacks
                some of its weights.
        """
        backbone = load_backbone(name_or_folder, pickle=pickle)
        tensors = torch_tensors(read_tensors(name_or_folder, pickle=pickle))
        if objectives is None:
            objectives = _found_objectives(backbone, tensors)
        if not any("pooler." in name for name in tensors) and not _pair_of(
            _checked_objectives(objectives)
        ):
            drop_pooler(backbone)
        model = cls(backbone, objectives=objectives, seed=seed)
        model._load_heads(tensors, str(name_or_folder))
        return model

    def _load_heads(self, tensors: Mapping[str, np.ndarray], source: str) -> None:
        """Set the heads that there are; say which there are not."""
        whats = {"masked words": self.head, "pairs": self.pair_head}
        for what, head in whats.items():
            if head is None:
                continue
            found = load_heads(tensors, head.heads)
            missing = sorted(head.heads.keys() - found)
            if found and missing:
                raise InputError(
                    f"{source} holds a head for {what} without {', '.join(missing)}, or of another "
                    "shape. The file is damaged, or its config.json is another model's"
                )
            if missing:
                print(f"{source} holds no head for {what}: it starts as a new one.", flush=True)

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, *, overwrite: bool = False
    ) -> None:
        """Write a folder that transformers' `AutoModelForMaskedLM` loads, in PyTorch too.

        The other models of this package load it as their backbone.

        Args:
            folder: a new one; it appears whole or not at all.
            tokenizer: a `tfllm.text.Tokenizer`, whose files are put beside the weights.
            overwrite: replace a folder that exists.

        Raises:
            InputError: if the folder exists or can't be written.
        """
        save_folder(
            folder,
            self.backbone,
            self._named_heads(),
            task="PreTraining" if self.pair_head is not None else "MaskedLM",
            tokenizer=tokenizer,
            overwrite=overwrite,
            settings={_OWN_KEY: dict(self.objectives)},
        )

    def _named_heads(self) -> dict[str, Any]:
        pair = {} if self.pair_head is None else self.pair_head.heads
        return {**self.head.heads, **pair}

    def with_vocabulary(self, sources: Sequence[Sequence[int]], tokenizer: Any = None) -> MaskedLM:
        """Make a model with another vocabulary and the same blocks; this one stays as it is.

        Args:
            sources: for each new word, the words of this model whose embeddings' mean it starts
                with, and whose biases' mean; see `tfllm.text.extend_wordpiece`, `extend` and
                `sources_of`. Its length is the new vocabulary's size.
            tokenizer: the new one, from which the padding token goes into the configuration.

        Raises:
            InputError: if a source is no word of this model, or the padding token moves where
                positions hang on it.
        """
        words = self.config.vocab_size
        strange = sorted({i for pieces in sources for i in pieces if not 0 <= i < words})
        if strange:
            raise InputError(f"sources name the word {strange[0]}, and this model has {words}")
        settings = self.get_config() | {"vocab_size": len(sources)}
        if tokenizer is not None and tokenizer.pad_id is not None:
            self._check_padding(tokenizer.pad_id)
            settings["pad_token_id"] = tokenizer.pad_id
        tensors = pretrained_tensors(self.backbone, self._named_heads())
        for name in self._names_by_word():
            column = tensors[name].reshape([words, -1])
            tensors[name] = embedding_rows(column, sources, self.seed).reshape(
                [len(sources), *tensors[name].shape[1:]]
            )
        backbone = create_backbone(AutoConfig.for_model(**settings))
        if _pooler_of(self.backbone) is None:
            drop_pooler(backbone)
        model = MaskedLM(backbone, objectives=self.objectives, seed=self.seed)
        prefix = f"{backbone.base_model_prefix}."
        named = {name.removeprefix(prefix): array for name, array in tensors.items()}
        rows = weight_table(backbone)
        for name, head in model._named_heads().items():
            rows += layer_weights(name, head)
        assign(rows, named, source="this model")
        return model

    def _check_padding(self, pad_id: int) -> None:
        if family_of(self.backbone).from_padding and pad_id != self.config.pad_token_id:
            raise InputError(
                f"the new tokenizer's padding is the word {pad_id}, and this model counts positions"
                f" from its padding, {self.config.pad_token_id}. Give a tokenizer with the same"
            )

    def _names_by_word(self) -> list[str]:
        """PyTorch's names of the weights with a row, or a number, for each word."""
        names = self.head.names
        embedding = family_of(self.backbone).outer[0].torch
        own = [f"{self.backbone.base_model_prefix}.{embedding}", names.bias]
        return own if self.head.decoder is None else [*own, names.decoder]

    @property
    def objectives(self) -> Mapping[str, float]:
        """Name of each objective → its share of the loss."""
        return json.loads(self._objectives)

    @property
    def _pair_objective(self) -> str | None:
        return _pair_of(self.objectives)

    def call(self, features: Any, training: bool = False) -> tf.Tensor:
        """Return all words' logits, `<float32>[rows, slots, words]`.

        They are of `masked_positions` where these are given, else of all tokens.
        """
        features = _as_features(features)
        seed = None
        if training and getattr(self, "optimizer", None) is not None:
            seed = self._dropout_seed(0)
        hidden = self.hidden_states(features, training=training, dropout_seed=seed)
        if "masked_positions" in features:
            hidden = tf.gather(hidden, features["masked_positions"], batch_dims=1)
        flat = self.head(tf.reshape(hidden, [-1, hidden.shape[-1]]))
        shape = tf.concat([tf.shape(hidden)[:-1], [self.config.vocab_size]], axis=0)
        return tf.ensure_shape(
            tf.reshape(flat, shape), [*hidden.shape[:-1], self.config.vocab_size]
        )

    def pair_logits(self, features: Any) -> tf.Tensor:
        """Say whether the two texts of each row belong together, `<float32>[rows, 2]`.

        Raises:
            InputError: if the model has no such objective.
        """
        if self.pair_head is None:
            raise InputError(
                f"this model judges no pairs: its objectives are {', '.join(self.objectives)}. "
                f"Add one of {', '.join(_PAIR_OBJECTIVES)}"
            )
        return self.pair_head(self.hidden_states(_as_features(features)))

    def hidden_states(
        self,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return the backbone's last states, `<float>[rows, tokens, hidden_dim]`."""
        return hidden_states(self.backbone, features, training=training, dropout_seed=dropout_seed)

    def objective_sums(
        self,
        features: Any,
        targets: Mapping[str, tf.Tensor],
        weights: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None = None,
    ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Sum each objective's cross-entropy, in nats, and the weight that is right.

        Args:
            features: see the class.
            targets: see the class.
            weights: see the class.
            training: whether dropout acts and a gradient will be asked for.
            dropout_seed: `<int64>[2]`.

        Returns:
            name → `Σ weights · loss` and `Σ weights · right`, `<float32>[]` each.
        """
        features = _as_features(features)
        hidden = self.hidden_states(features, training=training, dropout_seed=dropout_seed)
        sums = {}
        for name in self.objectives:
            target, weight = targets[name], tf.cast(weights[name], tf.float32)
            if name == _MASKED_LM:
                sums[name] = self._masked_sums(hidden, features, target, weight, training)
                continue
            assert self.pair_head is not None
            logits = self.pair_head(hidden, training=training, dropout_seed=dropout_seed)
            sums[name] = _pair_sums(logits, target, weight)
        return sums

    def _masked_sums(
        self,
        hidden: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        targets: tf.Tensor,
        weights: tf.Tensor,
        training: bool,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.shape(hidden)
        positions = features.get("masked_positions")
        if positions is None:
            positions = tf.range(shape[1])[None]
        places = tf.range(shape[0])[:, None] * shape[1] + positions
        rows = [tf.reshape(t, [-1]) for t in (places, targets, weights)]
        if not self.jit_compile:  # XLA has no shapes that depend on numbers
            learnt = rows[2] != 0.0
            rows = [tf.boolean_mask(t, learnt) for t in rows]
        places, targets, weights = rows
        states = tf.gather(tf.reshape(hidden, [-1, hidden.shape[-1]]), places)
        return linear_cross_entropy_and_hits(
            self.head.transform(states),
            self.head.table,
            targets,
            weights,
            bias=self.head.bias,
            differentiable=training,
            equal_chunks=bool(self.jit_compile),
        )

    def loss_sum_and_weight(
        self,
        features: Any,
        targets: Any,
        weights: Any,
        *,
        training: bool,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Give the loss as a sum and a weight, `<float32>[]` each.

        With one objective they are its summed loss and its weight. Several have no common weight:
        they give this batch's own loss, and 1.
        """
        sums = self.objective_sums(
            features, targets, weights, training=training, dropout_seed=dropout_seed
        )
        weight_of = {name: tf.reduce_sum(tf.cast(weights[name], tf.float32)) for name in sums}
        if len(sums) == 1:
            return sums[_MASKED_LM][0], weight_of[_MASKED_LM]
        means = [
            share * tf.math.divide_no_nan(sums[name][0], weight_of[name])
            for name, share in self.objectives.items()
        ]
        return tf.add_n(means), tf.constant(1.0)

    def _padding(self, features: Any, weights: Any) -> tf.Tensor:
        """Share of positions that are padding; slots without weight are none."""
        mask = _as_features(features).get("attention_mask")
        if mask is None:
            mask = tf.ones([1], tf.int32)
        return super()._padding(features, mask)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Give `predict` the likeliest words, `<int32>[rows, slots]` (see `call`)."""
        features, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        features = _as_features(features)
        hidden = self.hidden_states(features)
        if "masked_positions" in features:
            hidden = tf.gather(hidden, features["masked_positions"], batch_dims=1)
        flat = tf.reshape(hidden, [-1, hidden.shape[-1]])
        _, words = likeliest_words(self.head, flat, 1)
        return tf.reshape(words, tf.shape(hidden)[:2])

    def pseudo_log_likelihoods(
        self, texts: Sequence[str], tokenizer: Any, *, batch_size: int = 32
    ) -> Likelihoods:
        """Say how likely the model finds texts, each token hidden in turn.

        A token's likelihood is given all others of its text. A text with more tokens than the
        backbone can read is read in pieces of that length. Special tokens are not counted.

        Args:
            texts: UTF-8.
            tokenizer: a `tfllm.text.Tokenizer` of this model's vocabulary, with a mask token.
            batch_size: rows at once; a text of n tokens has n rows.

        Returns:
            of each text; `perplexity` is the pseudo-perplexity of all tokens together.

        Raises:
            InputError: if the tokenizer has no mask token, or does not fit the model.

        Reference:
            Salazar et al., Masked Language Model Scoring, 2020, arXiv:1910.14659.
        """
        return PseudoLikelihoods(self, tokenizer).of(texts, batch_size=batch_size)

    def signatures(self, preprocess: Any) -> dict[str, Any]:
        """Give the functions that a bundle serves; neighbours don't change a row's answer.

        Args:
            preprocess: a `tfllm.text.Preprocessor` of this model's vocabulary. Its
                `sequence_length` is how much of a text is read; masks behind it stay.

        Returns:
            `serving_default`: `text` `<string>[batch]` → `text` `<string>[batch]`, each mask
            replaced by its likeliest word and all else as it was.
            `fill_mask`: `text` `<string>[batch]` and `k` `<int32>[batch]` (1 to 100, others are
            taken as the nearest) → `tokens` `<string>[batch, masks, most k]` and `scores`
            `<float32>` of the same shape, likeliest first, "" and 0 where a row has fewer. A score
            is the word's share of all words. A token that continues a word is written as the
            vocabulary has it (`##ing`), one that begins a word may begin with a space (RoBERTa).
            `encode`: `text` → `vector` `<float32>[batch, hidden_dim]`, the mean of the text's last
            states, of length 1, as `TextEmbedder` gives it.
            `tokens`: the features, `<int32>[batch, tokens]` each → `output_ids`
            `<int32>[batch, tokens]`, `input_ids` with masks replaced.
            `tokenize`: `text` → the features.

        Raises:
            InputError: if the preprocessor does not fit the backbone, or has no mask token that
                is recognised in texts.
        """
        texts = TextFeatures(preprocess, self.backbone)
        filling = MaskFilling(self, texts)
        row = tf.TensorSpec([None], tf.string, name="text")
        numbers = tf.TensorSpec([None], tf.int32, name="k")

        @tf.function(input_signature=[row, numbers], autograph=False)
        def fill_mask(text: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
            return filling.candidates(text, k)

        @tf.function(input_signature=[row], autograph=False)
        def encode(text: tf.Tensor) -> dict[str, tf.Tensor]:
            features = texts(text)
            vectors = pool(self.hidden_states(features), features["attention_mask"], "mean")
            return {"vector": tf.math.l2_normalize(vectors, axis=-1)}

        served = texts.signatures(filling.filled_ids, filling.filled)
        return {**served, "fill_mask": fill_mask, "encode": encode}

    def probes(self, preprocess: Any) -> dict[str, dict[str, list[Any]]]:
        """Give example requests for the signatures.

        Args:
            preprocess: as for `signatures`.
        """
        tokenizer = preprocess.tokenizer
        mask = tokenizer.special_roles["mask_token"]
        texts: list[str | bytes] = [
            f"The {mask} sat on the {mask}.",
            "",
            f"{mask}",
            "no mask 日本語 🙂",
            f"{mask}{mask} {mask}! ".encode() + b"\xff\x00",
            "b " * 500 + mask,
        ]
        tokens = token_probes(self.backbone)
        mask_id = tokenizer.fast.token_to_id(mask)
        tokens["input_ids"] = [[mask_id, *row[1:]] for row in tokens["input_ids"]]
        return {
            "serving_default": {"text": texts},
            "fill_mask": {"text": texts, "k": [3]},
            "encode": {"text": texts},
            "tokens": tokens,
        }

    @property
    def max_positions(self) -> int:
        """Tokens that a row may have."""
        return traits(self.backbone).max_tokens


def _checked_objectives(
    objectives: Sequence[str] | Mapping[str, float],
) -> dict[str, float]:
    if isinstance(objectives, str):
        objectives = (objectives,)
    if not isinstance(objectives, Mapping):
        objectives = dict.fromkeys(objectives, 1.0)
    known = (_MASKED_LM, *_PAIR_OBJECTIVES)
    strange = [name for name in objectives if name not in known]
    if strange or _MASKED_LM not in objectives:
        raise InputError(
            f"objectives must be {_MASKED_LM}, and beside it one of {', '.join(_PAIR_OBJECTIVES)} "
            f"or none. Received: {', '.join(objectives) or 'none'}"
        )
    if all(name in objectives for name in _PAIR_OBJECTIVES):
        raise InputError(
            f"{' and '.join(_PAIR_OBJECTIVES)} share one head and give its labels another meaning. "
            "Leave one of them out"
        )
    shares = {name: float(share) for name, share in objectives.items()}
    bad = {name: share for name, share in shares.items() if not 0 < share < float("inf")}
    if bad:
        raise InputError(f"an objective's share of the loss must be above 0. Received: {bad}")
    return shares


def _pair_of(objectives: Mapping[str, float]) -> str | None:
    return next((name for name in _PAIR_OBJECTIVES if name in objectives), None)


def _found_objectives(
    backbone: TFPreTrainedModel, tensors: Mapping[str, np.ndarray]
) -> Sequence[str] | Mapping[str, float]:
    own = getattr(backbone.config, _OWN_KEY, None)
    if own:
        return own
    pair = native_pair_objective(backbone)
    if pair is None:
        return (_MASKED_LM,)
    held = all(f"{name}.weight" in tensors for name in PairHead(backbone).heads)
    return (_MASKED_LM, pair) if held else (_MASKED_LM,)


def _pooler_of(backbone: TFPreTrainedModel) -> Any:
    return getattr(family_of(backbone).main_layer(backbone), "pooler", None)


def _pair_sums(
    logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    losses = tf.nn.softmax_cross_entropy_with_logits(tf.one_hot(targets, 2), logits)
    right = tf.argmax(logits, axis=1, output_type=targets.dtype) == targets
    return tf.reduce_sum(weights * losses), tf.reduce_sum(weights * tf.cast(right, tf.float32))


def _as_features(features: Any) -> Mapping[str, tf.Tensor]:
    if isinstance(features, Mapping):
        return features
    return {"input_ids": tf.convert_to_tensor(features)}
