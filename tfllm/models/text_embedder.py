"""A model that turns a text into a vector, near to those of texts that mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from transformers import AutoConfig, PretrainedConfig, TFPreTrainedModel

from tfllm.layers.pooling import Pooling, check_pooling, pool
from tfllm.models.backbones import create_backbone, load_backbone, save_folder, traits, without_head
from tfllm.models.sentence_transformers_files import read_modules, write_modules
from tfllm.models.task_model import TaskModel
from tfllm.models.text_features import TextFeatures, token_probes

__all__ = ["TextEmbedder"]

_OWN_KEYS = ("tfllm_pooling", "tfllm_normalise")


class TextEmbedder(TaskModel):
    """Maps a row of tokens to one vector: the backbone's states, pooled, and made of length 1.

    It has no weights beside the backbone's. The dot product of two normalised vectors is their
    cosine.

    Features are `<int32>[batch, tokens]`: `input_ids`, `attention_mask`, and `token_type_ids`
    where the backbone knows them.

    Example:
        >>> model = TextEmbedder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
        >>> vectors = model(preprocess(["A dog barks.", "A hound is barking."]))
        >>> float(tf.reduce_sum(vectors[0] * vectors[1]))
        0.87

    Reference:
        Reimers and Gurevych, Sentence-BERT, 2019, arXiv:1908.10084.
    """

    def __init__(
        self,
        backbone: TFPreTrainedModel,
        *,
        pooling: Pooling = "mean",
        normalise: bool = True,
        seed: int = 0,
        name: str | None = "text_embedder",
    ) -> None:
        """Put pooling on a backbone.

        Args:
            backbone: a TF model of transformers without a head. It is used as it is, not copied.
            pooling: `mean`, `first`, `last` or `max`; see `layers.pooling.pool`.
            normalise: whether vectors are made of length 1.
            seed: decides dropout in training.
            name: of the Keras model.

        Raises:
            InputError: if there is no such pooling.
        """
        super().__init__(backbone, seed=seed, name=name)
        check_pooling(pooling)
        self.pooling = pooling
        self.normalise = normalise
        self.built = True

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig | Mapping[str, Any],
        *,
        pooling: Pooling | None = None,
        normalise: bool | None = None,
        seed: int = 0,
    ) -> TextEmbedder:
        """Create a model with random weights.

        Args:
            config: a configuration of transformers, or its dictionary with `model_type`.
            pooling: None for the dictionary's `tfllm_pooling`; where it has none, `mean`.
            normalise: None for the dictionary's `tfllm_normalise`; where it has none, True.
            seed: see the class.
        """
        if isinstance(config, Mapping):
            config = AutoConfig.for_model(**config)
        own_pooling, own_normalise = (getattr(config, key, None) for key in _OWN_KEYS)
        return cls(
            create_backbone(config),
            pooling=pooling or own_pooling or "mean",
            normalise=_first_given(normalise, own_normalise, True),
            seed=seed,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the configuration, which `from_config` takes."""
        own = dict(zip(_OWN_KEYS, (self.pooling, self.normalise), strict=True))
        return without_head(self.config.to_dict()) | own

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        pooling: Pooling | None = None,
        normalise: bool | None = None,
        seed: int = 0,
        pickle: bool = False,
    ) -> TextEmbedder:
        """Load a folder of sentence-transformers or of transformers, or a model of the hub.

        Args:
            name_or_folder: what `backbones.load_backbone` takes.
            pooling: None for what sentence-transformers' files say; without them `mean`.
            normalise: None for what sentence-transformers' files say; without them True.
            seed: see the class.
            pickle: whether weights that are a pickle may be read.

        Raises:
            InputError: if the weights can't be had, or the files ask for a step that is not done
                here.
        """
        modules = read_modules(name_or_folder)
        return cls(
            load_backbone(name_or_folder, pickle=pickle),
            pooling=pooling or modules.pooling or "mean",
            normalise=_first_given(normalise, modules.normalise, True),
            seed=seed,
        )

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: Any = None,
        *,
        sequence_length: int | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write a folder that sentence-transformers and transformers' `AutoModel` load.

        Args:
            folder: a new one; it appears whole or not at all.
            tokenizer: a `tfllm.text.Tokenizer`, whose files are put beside the weights.
            sequence_length: where sentence-transformers shall cut texts off; None for what the
                backbone can read.
            overwrite: replace a folder that exists.

        Raises:
            InputError: if the folder exists or can't be written.
        """
        modules = _Modules(self, tokenizer, sequence_length)
        save_folder(folder, self.backbone, {}, tokenizer=modules, overwrite=overwrite)

    def logits_of(
        self,
        hidden: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None,
    ) -> tf.Tensor:
        """Turn states into vectors, `<float32>[batch, hidden_dim]`."""
        vectors = pool(hidden, features.get("attention_mask"), self.pooling)
        return tf.math.l2_normalize(vectors, axis=-1) if self.normalise else vectors

    def embed(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return the rows' vectors, `<float32>[batch, hidden_dim]`."""
        return self.forward(features)

    def decode(self, logits: tf.Tensor, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Name the vectors: `vector`, `<float32>[batch, hidden_dim]`."""
        return {"vector": logits}

    def signatures(self, preprocess: Any) -> dict[str, Any]:
        """Give the functions that a bundle serves; neighbours don't change a row's vector.

        Args:
            preprocess: a `tfllm.text.Preprocessor` of this model's vocabulary. Its
                `sequence_length` is where texts are cut off.

        Returns:
            `serving_default`: `text` `<string>[batch]` → `vector` `<float32>[batch, hidden_dim]`.
            `tokens`: the features, `<int32>[batch, tokens]` each → the same.
            `tokenize`: `text` → the features.

        Raises:
            InputError: if the preprocessor does not fit the backbone.
        """
        texts = TextFeatures(preprocess, self.backbone)
        return texts.signatures(lambda features: self.decode(self.forward(features), features))

    def probes(self) -> dict[str, dict[str, list[Any]]]:
        """Give example requests for the signature that takes more than text."""
        return {"tokens": token_probes(self.backbone)}


class _Modules:
    """What is written beside a backbone's weights: the tokenizer, and sentence-transformers' files.

    It is saved as a tokenizer is.
    """

    def __init__(self, model: TextEmbedder, tokenizer: Any, sequence_length: int | None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._sequence_length = sequence_length

    def save(self, folder: str | Path) -> None:
        """Write the files."""
        if self._tokenizer is not None:
            self._tokenizer.save(folder)
        known = traits(self._model.backbone)
        write_modules(
            Path(folder),
            pooling=self._model.pooling,
            normalise=self._model.normalise,
            hidden_dim=known.hidden_dim,
            sequence_length=self._sequence_length or known.max_tokens,
        )


def _first_given(*values: bool | None) -> bool:
    return next(value for value in values if value is not None)
