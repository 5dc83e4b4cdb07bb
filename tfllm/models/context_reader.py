"""Reading contexts for the answer to a question, window by window, in graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.document_tokens import ContextTokens
from tfllm.models.question_windows import QuestionWindows, cut_contexts, frame_of_pair
from tfllm.models.text_features import TextFeatures
from tfllm.models.text_windows import in_order_of_length

if TYPE_CHECKING:
    from tfllm.models.question_answerer import QuestionAnswerer

__all__ = ["ContextReader"]

# Scores that differ by less, relatively above 1, are the same.
_SAME = 1e-5
_OUTPUTS = ("start", "end", "score", "no_answer_score")


class ContextReader(tf.Module):
    """Maps a question and a context of any length to the best span of all its windows.

    Example:
        >>> reader = ContextReader(model, preprocess)
        >>> tokens = reader.tokenize(["The cat sat."])
        >>> reader.read(reader.questions(["Who sat?"]), ["The cat sat."], tokens)["answer"]
        <tf.Tensor: [b'The cat']>
    """

    def __init__(
        self,
        model: QuestionAnswerer,
        preprocess: Any,
        *,
        overlap: int = 128,
        max_question_tokens: int = 64,
    ) -> None:
        """Settle how windows are cut.

        Args:
            model: what finds the best span of a window.
            preprocess: a `tfllm.text.Preprocessor` of its vocabulary; its `sequence_length` is how
                long windows are.
            overlap: tokens of the context that a window shares with the one before it.
            max_question_tokens: where longer questions are cut.

        Raises:
            InputError: if the preprocessor does not fit the backbone or puts no question before a
                context, or if the longest question leaves no room for more than the overlap.
        """
        super().__init__(name="context_reader")
        self.model, self.preprocess = model, preprocess
        self._texts = TextFeatures(preprocess, model.backbone, pair=True)
        self._frame = frame_of_pair(preprocess)
        self._overlap, self._max_question_tokens = overlap, max_question_tokens
        length = preprocess.sequence_length
        room = length - self._frame.size - max_question_tokens
        if max_question_tokens < 1 or overlap < 0 or room <= overlap:
            raise InputError(
                f"sequence_length {length} leaves {room} tokens of context beside a question of "
                f"{max_question_tokens} and special tokens; it must be more than the overlap "
                f"{overlap}. Give a smaller overlap or max_question_tokens, or longer rows"
            )

    def questions(self, question: tf.Tensor) -> tf.RaggedTensor:
        """Tokenize `<string>[batch]`, and cut: `<int32>[batch, (tokens)]`."""
        return self.preprocess.tokenizer.tokenize(question)[:, : self._max_question_tokens]

    def tokenize(self, context: tf.Tensor) -> ContextTokens:
        """Tokenize `<string>[batch]`."""
        return self.preprocess.tokenizer.tokenize_with_offsets(context)

    def read(
        self, questions: tf.RaggedTensor, contexts: tf.Tensor, tokens: ContextTokens
    ) -> dict[str, tf.Tensor]:
        """Find the best span of each context; of equals the first.

        Args:
            questions: what `questions` gives, one for each context.
            contexts: `<string>[batch]`.
            tokens: theirs, as `tokenize` gives them.

        Returns:
            `answer` `<string>[batch]`, cut out and made valid UTF-8; `start` and `end`
            `<int32>[batch]`, its first byte and the byte after its last; `score`
            `<float32>[batch]`; `no_answer_score` `<float32>[batch]`, the lowest of the windows.
        """
        windows = cut_contexts(
            questions,
            tokens,
            self._frame,
            sequence_length=self.preprocess.sequence_length,
            overlap=self._overlap,
            pad_id=self._texts.pad_id,
        )
        return _answers(contexts, windows, self._spans_of(windows))

    def _spans_of(self, windows: QuestionWindows) -> dict[str, tf.Tensor]:
        """Decode windows, a few at a time: what `decode` returns, `[windows]` each."""
        model, names = self.model, self._texts.names

        def compute(part: dict[str, tf.Tensor]) -> tf.Tensor:
            found = model.decode(model.forward({name: part[name] for name in names}), part)
            # Places of tokens are small enough to be float32.
            return tf.stack([tf.cast(found[name], tf.float32) for name in _OUTPUTS], axis=1)

        found = in_order_of_length(compute, windows.features, columns=len(_OUTPUTS))
        start, end, score, no_answer = tf.unstack(
            tf.ensure_shape(found, [None, len(_OUTPUTS)]), axis=1
        )
        places = {"start": tf.cast(start, tf.int32), "end": tf.cast(end, tf.int32)}
        return places | {"score": score, "no_answer_score": no_answer}


def _answers(
    contexts: tf.Tensor, windows: QuestionWindows, spans: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Take the best window of each context, and cut its span out."""
    rows, count = windows.rows, tf.size(contexts)
    best = tf.math.unsorted_segment_max(spans["score"], rows, count)
    # Windows of repeated text are equal but for rounding, which must not choose between them.
    is_best = spans["score"] >= tf.gather(best - _SAME * tf.maximum(1.0, tf.abs(best)), rows)
    number = tf.where(is_best, tf.range(tf.size(rows)), tf.int32.max)
    first = tf.math.unsorted_segment_min(number, rows, count)
    start, end = (
        tf.gather_nd(offsets, tf.stack([first, tf.gather(spans[place], first)], axis=1))
        for place, offsets in (("start", windows.starts), ("end", windows.ends))
    )
    # A token of byte-level BPE may begin with the space before its word.
    answer = tf.strings.substr(contexts, start, end - start)
    answer = tf.strings.regex_replace(answer, r"^[\s\pZ]+", "", replace_global=False)
    return {
        "answer": tf.strings.unicode_transcode(answer, "UTF-8", "UTF-8"),
        "start": end - tf.strings.length(answer),
        "end": end,
        "score": best,
        "no_answer_score": tf.math.unsorted_segment_min(spans["no_answer_score"], rows, count),
    }
