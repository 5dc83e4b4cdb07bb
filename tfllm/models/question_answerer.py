"""A model that finds the answer to a question in a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from transformers import AutoConfig, PretrainedConfig, TFPreTrainedModel

from tfllm.errors import InputError
from tfllm.models.answer_spans import best_spans
from tfllm.models.backbones import (
    create_backbone,
    drop_pooler,
    load_backbone,
    load_heads,
    save_folder,
    without_head,
)
from tfllm.models.context_reader import ContextReader
from tfllm.models.task_model import TaskModel
from tfllm.models.token_head import token_head

__all__ = ["QuestionAnswerer"]


_MASKED = -1e30

_THRESHOLD = "tfllm_no_answer_threshold"


class QuestionAnswerer(TaskModel):
    """Maps a question and a context to the span of the context that answers it.

    Features are `<int32>[batch, tokens]`: `input_ids`, `attention_mask`, `token_type_ids` where
    the backbone knows them, and for predictions `context_mask`, 1 on the context's tokens. Targets
    are `<int32>[batch, 2]`: the first and the last token of the answer, both 0 where the row holds
    none. The loss is the cross-entropy of the start and that of the end, each over the row's real
    tokens; a row's two count by its weight, `[batch]` or `[batch, 2]`, in sum and weight, so that
    their quotient is the mean of both.

    Contexts that are too long are several rows, windows that overlap; the answer is the span with
    the highest score over all of them, and of equals the first.

    Example:
        >>> model = QuestionAnswerer.from_pretrained("bert-base-uncased")
        >>> model.decode(model(features), features)["start"]
        <tf.Tensor: [17, 0, 42]>

    Reference:
        Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, 2018,
        arXiv:1810.04805, sections 4.2 and 4.3.
    """

    def __init__(
        self,
        backbone: TFPreTrainedModel,
        *,
        max_answer_tokens: int = 30,
        no_answer_threshold: float | None = None,
        seed: int = 0,
        name: str | None = "question_answerer",
    ) -> None:
        """Put a new head on a backbone.

        Args:
            backbone: a TF model of transformers without a head. It is used as it is, not copied,
                but for its pooler, which is taken off.
            max_answer_tokens: of an answer that is predicted.
            no_answer_threshold: by how much the score of no answer must exceed the best span's
                for `signatures` to give the empty answer; None: never. It can be set later.
            seed: decides dropout, together with the optimizer's step. The head's initial weights
                follow `keras.utils.set_random_seed`.
            name: of the Keras model.

        Raises:
            InputError: if an answer may have no token.
        """
        super().__init__(backbone, seed=seed, name=name)
        if max_answer_tokens < 1:
            raise InputError(f"max_answer_tokens must be at least 1. Received: {max_answer_tokens}")
        self.max_answer_tokens = max_answer_tokens
        self.no_answer_threshold = no_answer_threshold
        drop_pooler(backbone)
        self.qa_outputs = token_head(backbone, 2, "qa_outputs")
        self.built = True

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig | Mapping[str, Any],
        *,
        max_answer_tokens: int = 30,
        seed: int = 0,
    ) -> QuestionAnswerer:
        """Create a model with random weights.

        Args:
            config: a configuration of transformers, or its dictionary with `model_type`.
            max_answer_tokens: see the class.
            seed: see the class.
        """
        if isinstance(config, Mapping):
            config = AutoConfig.for_model(**config)
        return cls(
            create_backbone(config),
            max_answer_tokens=max_answer_tokens,
            no_answer_threshold=getattr(config, _THRESHOLD, None),
            seed=seed,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the configuration, which `from_config` takes."""
        return without_head(self.config.to_dict()) | {_THRESHOLD: self.no_answer_threshold}

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        max_answer_tokens: int = 30,
        seed: int = 0,
        pickle: bool = False,
    ) -> QuestionAnswerer:
        """Load a transformers folder, or a model of the hub.

        Where it holds no model that answers questions, a new head is put on the backbone.

        Args:
            name_or_folder: what `backbones.load_backbone` takes.
            max_answer_tokens: see the class.
            seed: see the class.
            pickle: whether weights that are a pickle may be read.

        Raises:
            InputError: if the weights can't be had.
        """
        backbone = load_backbone(name_or_folder, pickle=pickle)
        model = cls(backbone, max_answer_tokens=max_answer_tokens, seed=seed)
        if any("ForQuestionAnswering" in a for a in model.config.architectures or ()):
            model.no_answer_threshold = getattr(model.config, _THRESHOLD, None)
            heads = {"qa_outputs": model.qa_outputs}
            if not load_heads(name_or_folder, heads, pickle=pickle):
                raise InputError(
                    f"{name_or_folder} lacks the weights qa_outputs, or they are not those of two "
                    "logits. Does config.json belong to these weights?"
                )
        return model

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, *, overwrite: bool = False
    ) -> None:
        """Write a folder that transformers loads for question answering, in PyTorch too.

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
            {"qa_outputs": self.qa_outputs},
            task="QuestionAnswering",
            tokenizer=tokenizer,
            overwrite=overwrite,
            settings={_THRESHOLD: self.no_answer_threshold},
        )

    def logits_of(
        self,
        hidden: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        *,
        training: bool,
        dropout_seed: tf.Tensor | None,
    ) -> tf.Tensor:
        """Turn states into `<float32>[batch, tokens, 2]`, of start and end. No dropout, as BERT."""
        return self.qa_outputs(tf.cast(hidden, tf.float32))

    def loss_of(
        self,
        logits: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        targets: tf.Tensor,
        weights: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum the losses of starts and ends, and the weight to divide it by; see the class.

        Args:
            logits: `<float32>[batch, tokens, 2]`.
            features: `attention_mask` says which tokens are real; all are without it.
            targets: `<int32>[batch, 2]`.
            weights: `<float>[batch, 2]`, or `[batch]`.

        Returns:
            `Σ weights · loss` and `Σ weights`, `<float32>[]` each, over starts and ends.
        """
        weights = tf.cast(weights, tf.float32)
        if weights.shape.rank == 1:
            weights = tf.tile(weights[:, None], [1, 2])
        if "attention_mask" in features:
            real = tf.cast(features["attention_mask"], tf.bool)
            logits = tf.where(real[..., None], logits, _MASKED)
        one_hot = tf.one_hot(targets, tf.shape(logits)[1], axis=1)
        losses = -tf.reduce_sum(one_hot * tf.nn.log_softmax(logits, axis=1), axis=1)
        return tf.reduce_sum(weights * losses), tf.reduce_sum(weights)

    def decode(self, logits: tf.Tensor, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Find the best span of each row: every one of the context that is short enough is tried.

        Args:
            logits: `<float32>[batch, tokens, 2]`.
            features: `context_mask` says where answers may be.

        Returns:
            `start` and `end` `<int32>[batch]`, the first and the last token; `score`
            `<float32>[batch]`, the sum of their logits; `no_answer_score` `<float32>[batch]`, that
            of the first token's two. A row without context has 0, 0 and twice the last.
        """
        if "context_mask" not in features:
            raise ValueError(
                "features must hold context_mask, 1 on the context's tokens. Received: "
                f"{', '.join(sorted(features))}"
            )
        is_context = tf.cast(features["context_mask"], tf.bool)
        spans = best_spans(logits, is_context, self.max_answer_tokens)
        return spans._asdict() | {"no_answer_score": tf.reduce_sum(logits[:, 0], axis=-1)}

    def signatures(
        self, preprocess: Any, *, overlap: int = 128, max_question_tokens: int = 64
    ) -> dict[str, Any]:
        """Give the functions that a bundle serves; an answer does not depend on what is beside it.

        Contexts of any length are read whole, in windows that overlap.

        Args:
            preprocess: a `tfllm.text.Preprocessor` of this model's vocabulary. Its
                `sequence_length` is how long windows are.
            overlap: tokens of the context that a window shares with the one before it.
            max_question_tokens: where longer questions are cut.

        Returns:
            `serving_default`: `question` and `context`, `<string>[batch]` each → `answer`
            `<string>[batch]`, cut out of the context and made valid UTF-8; `start` and `end`
            `<int32>[batch]`, its first byte and the byte after its last; `score`
            `<float32>[batch]`; `no_answer_score` `<float32>[batch]`, the lowest of the context's
            windows. An empty context has the empty answer, and so has every question whose
            `no_answer_score` exceeds its `score` by more than `no_answer_threshold`.

        Raises:
            InputError: if the preprocessor does not fit the backbone or puts no question before a
                context, or if the longest question leaves no room for more than the overlap.
        """
        threshold = self.no_answer_threshold
        reader = ContextReader(
            self, preprocess, overlap=overlap, max_question_tokens=max_question_tokens
        )

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "question"),
                tf.TensorSpec([None], tf.string, "context"),
            ],
            autograph=False,
        )
        def serving_default(question: tf.Tensor, context: tf.Tensor) -> dict[str, tf.Tensor]:
            found = reader.read(reader.questions(question), context, reader.tokenize(context))
            return _silent(found, threshold)

        return {"serving_default": serving_default}

    def probes(self) -> dict[str, dict[str, list[Any]]]:
        """Give example requests for the signature."""
        return {
            "serving_default": {
                "question": ["Who sat on the mat?", "", "日本 🙂?", "b " * 500, b"\xff\x00"],
                "context": [
                    "The cat sat on the mat, and the dog saw it.",
                    "",
                    b"caf\xe9 \xf0\x9f \x00 [SEP] [CLS]",
                    "word " * 500,
                    " \t\n ",
                    "今天天气很好，我们去公园散步吧。",
                    "👩‍👩‍👧‍👦 e\u0301 ﬁ " + "x" * 300,
                ],
            }
        }


def _silent(found: dict[str, tf.Tensor], threshold: float | None) -> dict[str, tf.Tensor]:
    """Put the empty answer where none is enough better than the best one."""
    if threshold is None:
        return found
    none = found["no_answer_score"] - found["score"] > threshold
    places = {name: tf.where(none, 0, found[name]) for name in ("start", "end")}
    return found | places | {"answer": tf.where(none, "", found["answer"])}
