"""A model that says of a text, or of a pair of texts, which class it is in, or a number."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import tensorflow as tf
from transformers import AutoConfig, PretrainedConfig, TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.models.backbones import (
    classification_head,
    create_backbone,
    load_backbone,
    load_heads,
    save_folder,
    without_head,
)
from tfllm.models.labels import check_names, check_same_labels, labels_of, listed
from tfllm.models.task_model import TaskModel
from tfllm.models.text_features import TextFeatures, token_probes
from tfllm.models.text_windows import cut, frame_of, in_chunks

__all__ = ["Kind", "TextClassifier"]

Kind = Literal["single_label", "multi_label", "regression"]

# What transformers calls them in config.json.
_PROBLEM_TYPES: dict[Kind, str] = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
_THRESHOLDS = "tfllm_thresholds"


class TextClassifier(TaskModel):
    """Maps a row of tokens, one text or a pair, to one score for each class.

    Features are `<int32>[batch, tokens]`: `input_ids`, `attention_mask`, and `token_type_ids`
    where the backbone knows them. Targets, and what the loss is:

    | kind           | targets                     | loss of a row                              |
    |----------------|-----------------------------|--------------------------------------------|
    | `single_label` | `<int32>[batch]`, the class | cross-entropy of the softmax               |
    | `multi_label`  | `<float32>[batch, classes]` | cross-entropy of the sigmoid of each class |
    | `regression`   | `<float32>[batch]`          | squared error                              |

    A row, and with `multi_label` each of its classes, counts by its weight times the class's
    weight, in the sum and in what the sum is divided by.

    The head is the one of transformers' class for sequence classification, of each family its own.

    Example:
        >>> model = TextClassifier.from_pretrained("bert-base-uncased", labels=["bad", "good"])
        >>> model(features).shape
        TensorShape([8, 2])
        >>> model.decode(model(features), features)["scores"][0]
        <tf.Tensor: [0.03, 0.97]>

    Reference:
        Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, 2018,
        arXiv:1810.04805.
    """

    def __init__(
        self,
        backbone: TFPreTrainedModel,
        *,
        labels: Sequence[str] = (),
        kind: Kind = "single_label",
        class_weights: Sequence[float] | None = None,
        thresholds: Sequence[float] | float | None = None,
        seed: int = 0,
        name: str | None = "text_classifier",
    ) -> None:
        """Put a new head on a backbone.

        Args:
            backbone: a TF model of transformers without a head. It is used as it is, not copied.
            labels: the classes' names in the order of their numbers; for `regression` at most one,
                the name of what is measured.
            kind: `single_label`: each row is in one class; `multi_label`: in any number of them;
                `regression`: a row has a number.
            class_weights: how much each class counts in the loss; None for 1 each.
            thresholds: with `multi_label`, the score from which on a row is said to be in a class,
                one for all or one each; None for 0.5.
            seed: decides dropout, together with the optimizer's step. The head's initial weights
                follow `keras.utils.set_random_seed`.
            name: of the Keras model.

        Raises:
            InputError: if the arguments are no classes, or don't fit together.
        """
        super().__init__(backbone, seed=seed, name=name)
        if kind not in get_args(Kind):
            raise InputError(f"kind must be one of {', '.join(get_args(Kind))}. Received: {kind!r}")
        self.kind = kind
        # As text, because Keras wraps tuples and lists that a model has.
        self._labels = json.dumps(_checked_labels(labels, kind))
        self._class_weights = json.dumps(_checked_weights(class_weights, self.labels, kind))
        self.thresholds = thresholds
        self.head = classification_head(backbone, len(self.labels))
        self.built = True

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig | Mapping[str, Any],
        *,
        labels: Sequence[str] | None = None,
        kind: Kind | None = None,
        class_weights: Sequence[float] | None = None,
        thresholds: Sequence[float] | float | None = None,
        seed: int = 0,
    ) -> TextClassifier:
        """Create a model with random weights.

        Args:
            config: a configuration of transformers, or its dictionary with `model_type`.
            labels: None for the configuration's `id2label`.
            kind: None for the configuration's `problem_type`; where it has none, `single_label`.
            class_weights: see the class.
            thresholds: None for the configuration's `tfllm_thresholds`, if any.
            seed: see the class.
        """
        if isinstance(config, Mapping):
            config = AutoConfig.for_model(**config)
        kind = kind or _kind_of(config)
        return cls(
            create_backbone(config),
            labels=labels_of(config) if labels is None else labels,
            kind=kind,
            class_weights=class_weights,
            thresholds=_thresholds_of(config) if thresholds is None else thresholds,
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
        kind: Kind | None = None,
        class_weights: Sequence[float] | None = None,
        thresholds: Sequence[float] | float | None = None,
        seed: int = 0,
        pickle: bool = False,
        new_head: bool = False,
    ) -> TextClassifier:
        """Load a transformers folder, or a model of the hub.

        Where it holds a classifier its labels are taken; else a new head is put on the backbone.

        Args:
            name_or_folder: what `backbones.load_backbone` takes.
            labels: needed for a new head.
            kind: of a new head; None for `single_label`.
            class_weights: see the class.
            thresholds: None for those that the folder holds, if any.
            seed: see the class.
            pickle: whether weights that are a pickle may be read.
            new_head: put a new head on the backbone even where the folder holds one.

        Raises:
            InputError: if the weights can't be had, if a new head lacks labels, or if a head that
                is there has other labels or another kind.
        """
        backbone = load_backbone(name_or_folder, pickle=pickle)
        config = backbone.config
        held = any("ForSequenceClassification" in a for a in config.architectures or ())
        has_head = held and not new_head
        if has_head:
            _check_same(name_or_folder, config, labels, kind)
            kind = _kind_of(config)
            labels = labels_of(config)
            thresholds = _thresholds_of(config) if thresholds is None else thresholds
        kind = kind or "single_label"
        if labels is None and kind != "regression":
            raise InputError(
                f"{name_or_folder} holds no classifier, so the new one needs labels. Give the "
                "names of the classes, in the order of their numbers"
            )
        model = cls(
            backbone,
            labels=labels or (),
            kind=kind,
            class_weights=class_weights,
            thresholds=thresholds,
            seed=seed,
        )
        if has_head:
            model._load_head(name_or_folder, pickle=pickle)
        return model

    def _load_head(self, name_or_folder: str | Path, *, pickle: bool) -> None:
        missing = self.head.heads.keys() - load_heads(
            name_or_folder, self.head.heads, pickle=pickle
        )
        if missing:
            raise InputError(
                f"{name_or_folder} says that it holds a classifier of {len(self.labels)} classes, "
                f"and has no such weights: {', '.join(sorted(missing))}. The file is damaged, or "
                "its config.json is another model's"
            )

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, *, overwrite: bool = False
    ) -> None:
        """Write a folder that transformers loads as a sequence classifier, in PyTorch too.

        Args:
            folder: a new one; it appears whole or not at all.
            tokenizer: a `tfllm.text.Tokenizer`, whose files are put beside the weights.
            overwrite: replace a folder that exists.

        Raises:
            InputError: if the folder exists or can't be written.
        """
        settings = self._task_config()
        if self.config.pad_token_id is None and tokenizer is not None:
            # PyTorch's class finds a row's last token by it.
            settings["pad_token_id"] = tokenizer.pad_id
        save_folder(
            folder,
            self.backbone,
            self.head.heads,
            task="SequenceClassification",
            tokenizer=tokenizer,
            overwrite=overwrite,
            settings=settings,
        )

    def _task_config(self) -> dict[str, Any]:
        """What config.json says of the head."""
        config: dict[str, Any] = {
            "id2label": {str(i): label for i, label in enumerate(self.labels)},
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": _PROBLEM_TYPES[self.kind],
        }
        if self.kind == "multi_label":
            config[_THRESHOLDS] = list(self.thresholds)
        return config

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names in the order of their numbers."""
        return tuple(json.loads(self._labels))

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """How much each class counts in the loss; None where all count alike."""
        weights = json.loads(self._class_weights)
        return None if weights is None else tuple(weights)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """With `multi_label`, the score from which on a row is said to be in each class."""
        return tuple(json.loads(self._thresholds))

    @thresholds.setter
    def thresholds(self, thresholds: Sequence[float] | float | None) -> None:
        self._thresholds = json.dumps(_checked_thresholds(thresholds, self.labels, self.kind))

    def logits_of(
        self,
        hidden: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None,
    ) -> tf.Tensor:
        """Turn states into `<float32>[batch, classes]`; one class for `regression`."""
        logits = self.head(
            hidden,
            attention_mask=features.get("attention_mask"),
            training=training,
            dropout_seed=dropout_seed,
        )
        return tf.cast(logits, tf.float32)

    def loss_of(
        self,
        logits: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        targets: tf.Tensor,
        weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum the loss, and the weight to divide it by; see the class.

        Args:
            logits: `<float32>[batch, classes]`.
            features: not looked at.
            targets: see the class.
            weights: `<float>[batch]`; with `multi_label` also `[batch, classes]`.

        Returns:
            `Σ weights · class weights · loss` and `Σ weights · class weights`, `<float32>[]` each.
        """
        weights = tf.cast(weights, tf.float32)
        if self.kind == "single_label":
            targets = tf.one_hot(targets, len(self.labels))
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            if self.class_weights is not None:
                weights *= tf.linalg.matvec(targets, tf.constant(self.class_weights))
        elif self.kind == "multi_label":
            targets = tf.cast(targets, tf.float32)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
            weights = weights if weights.shape.rank == 2 else weights[:, None]
            weights *= tf.constant(self.class_weights or [1.0] * len(self.labels))
        else:
            losses = tf.math.squared_difference(logits[:, 0], tf.cast(targets, tf.float32))
        return tf.reduce_sum(weights * losses), tf.reduce_sum(weights)

    def decode(self, logits: tf.Tensor, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Turn logits into predictions.

        Returns:
            `scores` `<float32>[batch, classes]`: with `single_label` they add up to 1, with
            `multi_label` each is between 0 and 1. With `regression`, `score` `<float32>[batch]`.
        """
        if self.kind == "regression":
            return {"score": logits[:, 0]}
        to_scores = tf.nn.softmax if self.kind == "single_label" else tf.sigmoid
        return {"scores": to_scores(logits)}

    def evidence(self, logits: tf.Tensor, target_class: tf.Tensor | int) -> tf.Tensor:
        """Say how strongly the model holds each row to be in a class, `<float32>[batch]`.

        It is the class's log-odds, `ln(score / (1 − score))`; for `regression`, the number itself.

        Args:
            logits: `<float32>[batch, classes]`.
            target_class: `<int32>[batch]`, or one for all rows.
        """
        chosen = tf.one_hot(target_class, len(self.labels), on_value=True, off_value=False)
        own = tf.reduce_sum(tf.where(chosen, logits, 0.0), axis=1)
        if self.kind != "single_label":
            return own
        return own - tf.reduce_logsumexp(tf.where(chosen, logits.dtype.min, logits), axis=1)

    def signatures(
        self,
        preprocess: Any,
        *,
        pair: bool = False,
        windows: bool = False,
        overlap: int | None = None,
    ) -> dict[str, Any]:
        """Give the functions that a bundle serves; neighbours don't change a row's answer.

        Args:
            preprocess: a `tfllm.text.Preprocessor` of this model's vocabulary. Its
                `sequence_length` is where texts are cut off, or how long windows are.
            pair: whether a row has two texts.
            windows: read texts that are too long whole, in windows; the answer is by the mean of
                the windows' logits, each counting by its tokens.
            overlap: tokens that a window repeats of the one before it; None for a quarter of it.

        Returns:
            `serving_default`: `text`, with `pair` also `text_pair`, `<string>[batch]` →

            - `single_label`: `label` `<string>[batch]`, the likeliest, and of all classes
              `classes` `<string>[batch, classes]` and `scores` `<float32>[batch, classes]`;
            - `multi_label`: the same and `decisions` `<int32>[batch, classes]`, 1 where a score
              reaches its threshold;
            - `regression`: `score` `<float32>[batch]`.

            `tokens`: the features, `<int32>[batch, tokens]` each → the same.
            `tokenize`: the texts → the features, not in windows.

        Raises:
            InputError: if the preprocessor does not fit the backbone, a pair's texts can't be told
                apart, or windows are asked for pairs or have no room.
        """
        texts = TextFeatures(preprocess, self.backbone, pair=pair)
        if not windows:
            return texts.signatures(self._answer_to)
        mean_logits = self._mean_logits(texts, overlap)
        return texts.signatures(self._answer_to, lambda text: self._answer(mean_logits(text)))

    def _mean_logits(
        self, texts: TextFeatures, overlap: int | None
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return what maps `<string>[batch]` to `<float32>[batch, classes]`, read in windows."""
        if len(texts.text_names) == 2:
            raise InputError("windows are for one text a row, and pair=True asks for two")
        preprocess, frame = texts.preprocess, frame_of(texts.preprocess)
        room = preprocess.sequence_length - frame.size
        overlap = room // 4 if overlap is None else overlap
        if not 0 <= overlap < room:
            raise InputError(
                f"overlap must be at least 0 and less than the {room} tokens that a window has "
                f"room for. Received: {overlap}"
            )

        def mean_logits(text: tf.Tensor) -> tf.Tensor:
            found = cut(
                preprocess.tokenizer.tokenize(text),
                frame,
                sequence_length=preprocess.sequence_length,
                overlap=overlap,
                pad_id=texts.pad_id,
            )
            features = texts.known(found.features)
            logits = in_chunks(self.forward, features, columns=len(self.labels))
            rows = tf.size(text)
            weight = found.tokens[:, None]
            total = tf.math.unsorted_segment_sum(logits * weight, found.documents, rows)
            mean = total / tf.math.unsorted_segment_sum(weight, found.documents, rows)
            return tf.ensure_shape(mean, [None, len(self.labels)])

        return mean_logits

    def _answer_to(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self._answer(self.forward(features))

    def _answer(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turn logits into what a bundle answers."""
        found = self.decode(logits, {})
        if self.kind == "regression":
            return found
        names = tf.constant(self.labels)
        answer = {
            "label": tf.gather(names, tf.argmax(logits, axis=1, output_type=tf.int32)),
            "classes": tf.tile(names[None], [tf.shape(logits)[0], 1]),
            "scores": found["scores"],
        }
        if self.kind == "multi_label":
            reached = found["scores"] >= tf.constant(self.thresholds)
            answer["decisions"] = tf.cast(reached, tf.int32)
        return answer

    def probes(self, *, pair: bool = False) -> dict[str, dict[str, list[Any]]]:
        """Give example requests for the signatures that take more than one text.

        Args:
            pair: as for `signatures`.
        """
        probes = {"tokens": token_probes(self.backbone)}
        if pair:
            texts: dict[str, list[Any]] = {
                "text": ["A man plays a guitar.", "", "日本語 🙂", "b " * 500, "[SEP] a"],
                "text_pair": ["Nobody sings.", "", b"\xff\x00", "word " * 500],
            }
            probes |= {"serving_default": texts, "tokenize": texts}
        return probes


def _checked_labels(labels: Sequence[str], kind: Kind) -> list[str]:
    labels = check_names(labels)
    if kind == "regression":
        if len(labels) > 1:
            raise InputError(
                f"regression has one number, not classes. Received: labels {listed(labels)}"
            )
        return labels or ["score"]
    least = 2 if kind == "single_label" else 1
    if len(labels) < least:
        raise InputError(
            f"a {kind} classifier needs at least {least} classes. Received: "
            f"{listed(labels) or 'none'}. See that the training data has the labels it should"
        )
    return labels


def _checked_weights(
    weights: Sequence[float] | None, labels: Sequence[str], kind: Kind
) -> list[float] | None:
    if weights is None:
        return None
    if kind == "regression":
        raise InputError("class_weights are for classes, and regression has none: leave them out")
    weights = [float(weight) for weight in weights]
    if len(weights) != len(labels):
        raise InputError(
            f"class_weights must hold one weight for each of the {len(labels)} classes "
            f"{listed(labels)}. Received: {len(weights)}"
        )
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise InputError(
            f"class_weights must be 0 or more, and not all 0. Received: {listed(weights)}"
        )
    return weights


def _checked_thresholds(
    thresholds: Sequence[float] | float | None, labels: Sequence[str], kind: Kind
) -> list[float]:
    if kind != "multi_label":
        if thresholds is not None:
            raise InputError(f"thresholds are for kind='multi_label'. Received: kind={kind!r}")
        return []
    if thresholds is None:
        thresholds = 0.5
    if isinstance(thresholds, float | int):
        thresholds = [thresholds] * len(labels)
    thresholds = [float(threshold) for threshold in thresholds]
    if len(thresholds) != len(labels):
        raise InputError(
            f"thresholds must be one number, or one for each of the {len(labels)} classes "
            f"{listed(labels)}. Received: {len(thresholds)}"
        )
    if not all(0 < threshold < 1 for threshold in thresholds):
        raise InputError(
            f"thresholds must be between 0 and 1, both excluded. Received: {listed(thresholds)}"
        )
    return thresholds


def _kind_of(config: PretrainedConfig) -> Kind:
    """Read the kind as transformers does, which takes one class for a number."""
    for kind, name in _PROBLEM_TYPES.items():
        if config.problem_type == name:
            return kind
    return "regression" if config.num_labels == 1 else "single_label"


def _thresholds_of(config: PretrainedConfig) -> Sequence[float] | None:
    return getattr(config, _THRESHOLDS, None)


def _check_same(
    name_or_folder: str | Path,
    config: PretrainedConfig,
    labels: Sequence[str] | None,
    kind: Kind | None,
) -> None:
    """Refuse labels and a kind that differ from those of the head that is there."""
    check_same_labels(name_or_folder, labels_of(config), labels, what="classifier")
    if kind is not None and kind != _kind_of(config):
        raise InputError(
            f"{name_or_folder} holds a {_kind_of(config)} classifier, and kind is {kind}. Leave "
            "kind out, or put a new head on its backbone (--new_head)"
        )
