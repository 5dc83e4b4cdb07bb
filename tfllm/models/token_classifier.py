"""A model that gives each word of a text a tag: names of people and places, parts of speech."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf
from transformers import AutoConfig, PretrainedConfig, TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.layers.crf import CRF, log_likelihood, marginals, viterbi
from tfllm.layers.dropout import SeededDropout
from tfllm.models.backbones import (
    create_backbone,
    drop_pooler,
    head_dropout,
    load_backbone,
    load_heads,
    save_folder,
    without_head,
)
from tfllm.models.entities import find_entities
from tfllm.models.labels import check_names, check_same_labels, labels_of, listed
from tfllm.models.tag_scheme import Scheme, allowed_tags
from tfllm.models.task_model import TaskModel
from tfllm.models.text_features import TextFeatures
from tfllm.models.text_words import find_words
from tfllm.models.token_head import token_head
from tfllm.models.token_windows import TokenWindows
from tfllm.models.word_rows import WordRows

__all__ = ["TokenClassifier"]

# Heads number their places of dropout past the backbones' and the adapters'.
_DROPOUT_SITE = 400_011

# What the names of a CRF's weights begin with in a folder.
_CRF = "crf."

_CRF_KEY, _SCHEME_KEY = "tfllm_crf", "tfllm_scheme"


class TokenClassifier(TaskModel):
    """Maps each word of a row, by its first token, to a tag.

    Features are `<int32>[batch, tokens]`: `input_ids`, `attention_mask`, `token_type_ids` where
    the backbone knows them, and for predictions `word_starts`, 1 on the first token of each word
    that is to be tagged. Targets are `<int32>[batch, tokens]`, the class where the weights,
    `<float32>[batch, tokens]`, are not 0: on first tokens.

    Without a CRF the loss is the cross-entropy of each word. With one it is the negative
    log-likelihood of each row of words, `−ln p(tags | words)`; the weight that it is divided by
    is the number of words all the same, so that one learning rate fits both.

    With the scheme `iob2` no prediction is ever illegal: the tags of a row are the likeliest ones
    that the scheme allows, with a CRF or without. Where a long document comes in several windows
    (rows), each begins as a document does, so that what is joined is legal too; `signatures` read
    whole documents and know no such borders.

    Example:
        >>> labels = ["O", "B-PER", "I-PER"]
        >>> model = TokenClassifier.from_pretrained("bert-base-cased", labels=labels, crf=True)
        >>> model.decode(model(features), features)["tags"]
        <tf.Tensor: [[-1, 1, -1, 2, 0, -1]]>

    Reference:
        Devlin et al., BERT, 2018, arXiv:1810.04805 (first tokens); Lafferty et al., Conditional
        Random Fields, 2001; Ramshaw and Marcus, Text Chunking, 1995 (IOB).
    """

    def __init__(
        self,
        backbone: TFPreTrainedModel,
        *,
        labels: Sequence[str],
        crf: bool = False,
        scheme: Scheme | None = "iob2",
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
        name: str | None = "token_classifier",
    ) -> None:
        """Put a new head on a backbone.

        Args:
            backbone: a TF model of transformers without a head. It is used as it is, not copied,
                but for its pooler, which is taken off.
            labels: the tags' names in the order of their numbers.
            crf: whether tags depend on the tags beside them; see `layers.crf.CRF`.
            scheme: `iob2`: labels are `O`, `B-X` and `I-X`; None: anything.
            class_weights: how much each class counts in the loss, in sum and weight; None for 1
                each. Not with a CRF, whose loss is that of whole rows.
            seed: decides dropout, together with the optimizer's step. The head's initial weights
                follow `keras.utils.set_random_seed`; a CRF's are 0.
            name: of the Keras model.

        Raises:
            InputError: if the labels are too few, not distinct or not of the scheme, or the class
                weights don't fit.
        """
        super().__init__(backbone, seed=seed, name=name)
        drop_pooler(backbone)
        # As text, because Keras wraps tuples and lists that a model has.
        self._labels = json.dumps(_checked_labels(labels))
        self._class_weights = json.dumps(_checked_weights(class_weights, self.labels, crf))
        self.scheme = scheme
        allowed = allowed_tags(self.labels, scheme)
        self._constraints = None if allowed.transitions.all() else allowed.chain()
        self.classifier = token_head(backbone, len(self.labels), "classifier")
        self.crf = CRF(len(self.labels), allowed=allowed) if crf else None
        self.built = True

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig | Mapping[str, Any],
        *,
        labels: Sequence[str] | None = None,
        crf: bool | None = None,
        scheme: Scheme | None | Literal["as_saved"] = "as_saved",
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> TokenClassifier:
        """Create a model with random weights.

        Args:
            config: a configuration of transformers, or its dictionary with `model_type`.
            labels: None for the configuration's `id2label`.
            crf: None for the configuration's `tfllm_crf`; False where it has none.
            scheme: `as_saved` for the configuration's `tfllm_scheme`; `iob2` where it has none.
            class_weights: see the class.
            seed: see the class.
        """
        if isinstance(config, Mapping):
            config = AutoConfig.for_model(**config)
        return cls(
            create_backbone(config),
            labels=labels_of(config) if labels is None else labels,
            crf=_crf_of(config) if crf is None else crf,
            scheme=_scheme_of(config, "iob2") if scheme == "as_saved" else scheme,
            class_weights=class_weights,
            seed=seed,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the configuration, which `from_config` takes."""
        return without_head(self.config.to_dict()) | self._task_config()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        labels: Sequence[str] | None = None,
        crf: bool | None = None,
        scheme: Scheme | None | Literal["as_saved"] = "as_saved",
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
        pickle: bool = False,
        new_head: bool = False,
    ) -> TokenClassifier:
        """Load a transformers folder, or a model of the hub.

        Where it holds a token classifier its labels are taken, and its CRF if it has one; else a
        new head is put on the backbone. A head of another program's says nothing of its scheme:
        it gets none, unless `scheme` says otherwise.

        Args:
            name_or_folder: what `backbones.load_backbone` takes.
            labels: needed for a new head.
            crf: None for what the folder holds; True adds one to a head that has none.
            scheme: `as_saved` for the folder's, and `iob2` for a new head.
            class_weights: see the class.
            seed: see the class.
            pickle: whether weights that are a pickle may be read.
            new_head: put a new head on the backbone even where the folder holds one.

        Raises:
            InputError: if the weights can't be had, if a new head lacks labels, or if a head that
                is there has other labels.
        """
        backbone = load_backbone(name_or_folder, pickle=pickle)
        config = backbone.config
        held = any("ForTokenClassification" in a for a in config.architectures or ())
        has_head = held and not new_head
        if has_head:
            check_same_labels(name_or_folder, labels_of(config), labels, what="token classifier")
            labels = labels_of(config)
        if labels is None:
            raise InputError(
                f"{name_or_folder} holds no token classifier, so the new one needs labels. Give "
                "the names of the tags, in the order of their numbers"
            )
        had_crf = has_head and _crf_of(config)
        if scheme == "as_saved":
            scheme = _scheme_of(config, None) if has_head else "iob2"
        model = cls(
            backbone,
            labels=labels,
            crf=had_crf if crf is None else crf,
            scheme=scheme,
            class_weights=class_weights,
            seed=seed,
        )
        if has_head:
            model._load_heads(name_or_folder, with_crf=had_crf, pickle=pickle)
        return model

    def _load_heads(self, name_or_folder: str | Path, *, with_crf: bool, pickle: bool) -> None:
        crf = self.crf if with_crf else None
        scores = _crf_variables(crf)
        heads = {"classifier": self.classifier} | scores
        missing = heads.keys() - load_heads(name_or_folder, heads, pickle=pickle)
        if missing:
            raise InputError(
                f"{name_or_folder} lacks weights of its token classifier, or they don't fit its "
                f"{len(self.labels)} labels: {', '.join(sorted(missing))}. Does config.json belong "
                "to these weights?"
            )
        if crf is not None:
            crf.assign({name.removeprefix(_CRF): v.numpy() for name, v in scores.items()})

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, *, overwrite: bool = False
    ) -> None:
        """Write a folder that transformers loads as a token classifier, in PyTorch too.

        A CRF's weights stand beside the others as `crf.…`; transformers passes over them, and
        tags each word by itself.

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
            {"classifier": self.classifier} | _crf_variables(self.crf),
            task="TokenClassification",
            tokenizer=tokenizer,
            overwrite=overwrite,
            settings=self._task_config(),
        )

    def _task_config(self) -> dict[str, Any]:
        """What config.json says of the head."""
        return {
            "id2label": {str(i): label for i, label in enumerate(self.labels)},
            "label2id": {label: i for i, label in enumerate(self.labels)},
            _CRF_KEY: self.crf is not None,
            _SCHEME_KEY: self.scheme,
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """The tags' names in the order of their numbers."""
        return tuple(json.loads(self._labels))

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """How much each class counts in the loss; None where all count alike."""
        weights = json.loads(self._class_weights)
        return None if weights is None else tuple(weights)

    def logits_of(
        self,
        hidden: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None,
    ) -> tf.Tensor:
        """Turn states into `<float32>[batch, tokens, classes]`."""
        hidden = tf.cast(hidden, tf.float32)
        dropout = SeededDropout.when(training, dropout_seed)
        if dropout is not None:
            hidden = dropout(hidden, head_dropout(self.backbone), _DROPOUT_SITE)
        return self.classifier(hidden)

    def loss_of(
        self,
        logits: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        targets: tf.Tensor,
        weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum the loss of all words, and the weight to divide it by; see the class.

        Args:
            logits: `<float32>[batch, tokens, classes]`.
            features: not looked at.
            targets: `<int32>[batch, tokens]`.
            weights: `<float>[batch, tokens]`, not 0 on words' first tokens. With a CRF a row of
                words counts by the largest of them.

        Returns:
            `Σ weights · class weights · loss` and `Σ weights · class weights`, `<float32>[]` each.
        """
        weights = tf.cast(weights, tf.float32)
        emissions = tf.nn.log_softmax(logits)
        if self.crf is not None:
            return self._crf_loss(self.crf, emissions, targets, weights)
        one_hot = tf.one_hot(targets, len(self.labels))
        if self.class_weights is not None:
            weights *= tf.linalg.matvec(one_hot, tf.constant(self.class_weights))
        losses = -tf.reduce_sum(one_hot * emissions, axis=-1)
        return tf.reduce_sum(weights * losses), tf.reduce_sum(weights)

    def _crf_loss(
        self, crf: CRF, emissions: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows = WordRows.of(weights != 0.0)
        tags = rows.gather(targets)
        chain = crf.chain()
        # A window of a document may begin within an entity: then how rows begin says nothing.
        starts_outside = ~tf.gather(tf.constant(crf.allowed.starts), tags[:, :1])
        within = starts_outside & (rows.lengths > 0)[:, None]
        chain = chain._replace(starts=tf.where(within, 0.0, chain.starts))
        found = log_likelihood(chain, rows.gather(emissions), tags, rows.lengths)
        row_weights = tf.reduce_max(weights, axis=1)
        words = tf.cast(rows.lengths, tf.float32)
        return -tf.reduce_sum(row_weights * found), tf.reduce_sum(row_weights * words)

    def decode(self, logits: tf.Tensor, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Turn logits into predictions.

        Args:
            logits: `<float32>[batch, tokens, classes]`.
            features: `word_starts` says which tokens are tagged.

        Returns:
            `tags` `<int32>[batch, tokens]`: the class of each word, -1 on other tokens; `scores`
            `<float32>[batch, tokens]`: its probability, 0 on other tokens. With a CRF this is the
            posterior one, over all rows of tags; else the softmax's.
        """
        if "word_starts" not in features:
            raise ValueError(
                "features must hold word_starts, 1 on each word's first token. Received: "
                f"{', '.join(sorted(features))}"
            )
        rows = WordRows.of(tf.cast(features["word_starts"], tf.bool))
        tags, scores = self._tag(rows.gather(logits), rows.lengths)
        return {"tags": rows.scatter(tags, -1), "scores": rows.scatter(scores, 0.0)}

    def _tag(self, logits: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Tag `<float32>[batch, words, classes]`: classes and their probabilities."""
        emissions = tf.nn.log_softmax(logits)
        if self.crf is not None:
            chain = self.crf.chain()
            tags = viterbi(chain, emissions, lengths)
            shares = marginals(chain, emissions, lengths)
        else:
            shares = tf.exp(emissions)
            if self._constraints is None:
                tags = tf.argmax(emissions, axis=-1, output_type=tf.int32)
            else:
                tags = viterbi(self._constraints, emissions, lengths)
        return tags, tf.gather(shares, tf.maximum(tags, 0), batch_dims=2)

    def signatures(self, preprocess: Any, *, overlap: int | None = None) -> dict[str, Any]:
        """Give the functions that a bundle serves; an answer does not depend on what is beside it.

        Texts of any length are read whole, in windows that overlap, and tagged as one row of
        words. Words are found as `text_words.find_words` does.

        Args:
            preprocess: a `tfllm.text.Preprocessor` of this model's vocabulary. Its
                `sequence_length` is how long windows are.
            overlap: tokens that a window repeats of the one before it; None for a quarter of it.
                Each word is tagged in the window where it has most around it.

        Returns:
            `serving_default`: `text` `<string>[batch]` → the entities of each text, padded to the
            row that has most, `[batch, entities]` each: `entity` `<string>`, the text; `label`
            `<string>`; `start` and `end` `<int32>`, first byte and byte after the last; `score`
            `<float32>`. Padding is "", "", -1, -1 and 0.

        Raises:
            InputError: if the preprocessor does not fit the backbone, or windows have no room.
        """
        texts = TextFeatures(preprocess, self.backbone)
        windows = TokenWindows(texts, overlap)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")], autograph=False)
        def serving_default(text: tf.Tensor) -> dict[str, tf.Tensor]:
            ids, starts, ends = preprocess.tokenizer.tokenize_with_offsets(text)
            words = find_words(text, starts, ends)
            logits = windows.logits(self.forward, ids)
            count = tf.size(text, tf.int64)
            rows = tf.RaggedTensor.from_value_rowids(
                tf.gather(logits, words.tokens), tf.cast(words.texts, tf.int64), count
            )
            lengths = tf.cast(rows.row_lengths(), tf.int32)
            dense = rows.to_tensor(shape=[None, None, len(self.labels)])
            tags, scores = (
                tf.boolean_mask(t, tf.sequence_mask(lengths)) for t in self._tag(dense, lengths)
            )
            return find_entities(text, words, tags, scores, self.labels)

        return {"serving_default": serving_default}

    def probes(self) -> dict[str, dict[str, list[Any]]]:
        """Give example requests: none, since awkward texts are asked of every text signature."""
        return {}


def _checked_labels(labels: Sequence[str]) -> list[str]:
    labels = check_names(labels)
    if len(labels) < 2:
        raise InputError(
            f"a token classifier needs at least 2 tags. Received: {listed(labels) or 'none'}. "
            "See that the training data has the tags it should"
        )
    return labels


def _checked_weights(
    weights: Sequence[float] | None, labels: Sequence[str], crf: bool
) -> list[float] | None:
    if weights is None:
        return None
    if crf:
        raise InputError("class_weights weigh single words, and a CRF's loss is of whole rows")
    weights = [float(weight) for weight in weights]
    if len(weights) != len(labels) or not all(0 <= w < math.inf for w in weights):
        raise InputError(
            f"class_weights must be one number of 0 or more for each of the {len(labels)} tags. "
            f"Received: {weights}"
        )
    return weights


def _crf_variables(crf: CRF | None) -> dict[str, tf.Variable]:
    """The scores of a CRF, not what its variables hold, by their names in a folder."""
    return {} if crf is None else {_CRF + k: tf.Variable(v) for k, v in crf.tensors().items()}


def _crf_of(config: PretrainedConfig) -> bool:
    return bool(getattr(config, _CRF_KEY, False))


def _scheme_of(config: PretrainedConfig, otherwise: Scheme | None) -> Scheme | None:
    return getattr(config, _SCHEME_KEY, otherwise)
