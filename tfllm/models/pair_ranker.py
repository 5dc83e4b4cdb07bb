"""How well each document fits a question, by a model that reads the two together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.document_tokens import ContextTokens
from tfllm.models.question_windows import cut_contexts, frame_of_pair
from tfllm.models.text_features import TextFeatures
from tfllm.models.text_windows import in_order_of_length

if TYPE_CHECKING:
    from tfllm.models.text_classifier import TextClassifier

__all__ = ["PairRanker"]


class PairRanker(tf.Module):
    """Scores pairs of a question and a document, whose end is cut off where it is too long.

    Reference:
        Nogueira and Cho, Passage Re-ranking with BERT, 2019, arXiv:1901.04085.
    """

    def __init__(
        self, model: TextClassifier, preprocess: Any, *, max_question_tokens: int = 64
    ) -> None:
        """Take a cross-encoder.

        Args:
            model: of kind `regression`, or of two classes whose second one is "fits".
            preprocess: a `tfllm.text.Preprocessor` of its vocabulary; its `sequence_length` is how
                long pairs are.
            max_question_tokens: where longer questions are cut.

        Raises:
            InputError: if the model has more classes, the preprocessor does not fit it or puts no
                question before a document, or a question leaves no room for a document.
        """
        super().__init__(name="pair_ranker")
        if len(model.labels) > 2:
            raise InputError(
                "a re-ranker must give one number, or have two classes whose second one is that a "
                f"document fits. Received: {len(model.labels)} classes"
            )
        self.model, self.preprocess = model, preprocess
        self._texts = TextFeatures(preprocess, model.backbone, pair=True)
        self._frame = frame_of_pair(preprocess)
        self._max_question_tokens = max_question_tokens
        least = self._frame.size + max_question_tokens + 1
        if preprocess.sequence_length < least:
            raise InputError(
                f"a re-ranker's sequence_length must be at least {least}, for a question of "
                f"{max_question_tokens} tokens. Received: {preprocess.sequence_length}"
            )

    def questions(self, question: tf.Tensor) -> tf.RaggedTensor:
        """Tokenize `<string>[batch]`, and cut: `<int32>[batch, (tokens)]`."""
        return self.preprocess.tokenizer.tokenize(question)[:, : self._max_question_tokens]

    def score(self, questions: tf.RaggedTensor, tokens: ContextTokens) -> tf.Tensor:
        """Score pairs: `<float32>[batch]`, the number or the log-odds that the document fits.

        Args:
            questions: what `questions` gives, one for each document.
            tokens: of the documents, as `tokenize_with_offsets` of the tokenizer gives them.
        """
        length = self.preprocess.sequence_length
        windows = cut_contexts(
            questions,
            tuple(column[:, :length] for column in tokens),
            self._frame,
            sequence_length=length,
            overlap=0,
            pad_id=self._texts.pad_id,
        )
        # Of each document its beginning alone.
        first = windows.rows > tf.concat([[-1], windows.rows], axis=0)[:-1]
        features = {name: values[first] for name, values in windows.features.items()}
        scores = in_order_of_length(self._score_rows, features, columns=1)
        return tf.ensure_shape(scores, [None, 1])[:, 0]

    def _score_rows(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        logits = self.model.forward({name: features[name] for name in self._texts.names})
        return self.model.evidence(logits, len(self.model.labels) - 1)[:, None]
