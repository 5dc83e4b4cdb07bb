"""Answers to questions out of a corpus: documents are found, re-ranked and read, in one graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.context_reader import ContextReader
from tfllm.models.corpus_search import CorpusSearch
from tfllm.models.document_tokens import DocumentTokens
from tfllm.models.pair_ranker import PairRanker
from tfllm.models.text_features import TextFeatures

__all__ = ["Candidates", "CorpusAnswerer"]

# Scores that differ by less, relatively above 1, are the same.
_SAME = 1e-5


class Candidates(NamedTuple):
    """The documents that are read for each question, best first."""

    places: tf.Tensor
    """`<int32>[batch, k]`, in the corpus."""
    scores: dict[str, tf.Tensor]
    """`retrieval_score`, and `reranker_score` where there is a re-ranker: `<float32>[batch, k]`."""


class CorpusAnswerer(tf.Module):
    """Maps a question to a span of one of the documents of a corpus.

    The search finds documents; a re-ranker, if there is one, orders them anew; the best k are read.
    Of their best spans the one with the highest score is the answer:

        score = reading_score + retrieval_weight · retrieval_score
                              + reranker_weight · reranker_score

    `reading_score` is what the reader gives the span less what it gives "no answer" in the same
    document: how a document's own words raise or lower all its spans falls out of the difference,
    so that documents can be compared. `retrieval_score` is the dot product of the vectors,
    `reranker_score` what `PairRanker` gives. Nothing is divided by a sum over the k documents: a
    softmax over all their spans would keep their order.

    The documents' tokens are kept beside their vectors: none is tokenized when a question comes.

    Example:
        >>> answerer = CorpusAnswerer(search, preprocess, ContextReader(reader, pairs))
        >>> answerer.signatures(k=5)["answer"](["Who wrote Hamlet?"])["answer"]
        <tf.Tensor: [b'Shakespeare']>

    Reference:
        Chen et al., Reading Wikipedia to Answer Open-Domain Questions, 2017, arXiv:1704.00051.
        Yang et al., End-to-End Open-Domain Question Answering with BERTserini, 2019,
        arXiv:1902.01718: scores of reading and retrieval are added with a weight.
    """

    def __init__(
        self,
        search: CorpusSearch,
        preprocess: Any,
        reader: ContextReader,
        *,
        reranker: PairRanker | None = None,
        retrieval_weight: float = 40.0,
        reranker_weight: float = 1.0,
    ) -> None:
        """Put the parts together; the corpus is tokenized.

        Args:
            search: the corpus, its vectors, and what makes vectors of questions.
            preprocess: a `tfllm.text.Preprocessor` of the search's vocabulary.
            reader: what finds spans. Its model's `no_answer_threshold` holds here too.
            reranker: what orders found documents anew.
            retrieval_weight: see the class. The default did best on questions of SQuAD's training
                part with vectors of length 1; `tests/benchmarks/answers.py weights` finds yours.
            reranker_weight: see the class.

        Raises:
            InputError: if the preprocessor does not fit the search's embedder.
        """
        super().__init__(name="corpus_answerer")
        self.search, self.preprocess = search, preprocess
        self.reader, self.reranker = reader, reranker
        self._features = TextFeatures(preprocess, search.embedder.backbone)
        self._weights = {"retrieval_score": retrieval_weight, "reranker_score": reranker_weight}
        tokenizer = reader.preprocess.tokenizer
        self._tokens = self._reranker_tokens = DocumentTokens(tokenizer, search.texts)
        if reranker is not None:
            other = reranker.preprocess.tokenizer
            if other.fingerprint != tokenizer.fingerprint:
                self._reranker_tokens = DocumentTokens(other, search.texts)

    def find(self, question: tf.Tensor, k: int, reranked: int) -> Candidates:
        """Find the documents to be read.

        Args:
            question: `<string>[batch]`.
            k: how many; at most the corpus has.
            reranked: how many the re-ranker looks at, from k to the corpus's; without a re-ranker
                it does not count.
        """
        with tf.name_scope("search"):
            found = self.search.find(self._features, question, reranked if self.reranker else k)
        if self.reranker is None:
            return Candidates(found.places, {"retrieval_score": found.scores})
        with tf.name_scope("rerank"):
            questions = _repeated(self.reranker.questions(question), reranked)
            tokens = self._reranker_tokens.of(tf.reshape(found.places, [-1]))
            scores = tf.reshape(self.reranker.score(questions, tokens), [-1, reranked])
            best, order = tf.math.top_k(scores, k)
        places, retrieval = (tf.gather(part, order, batch_dims=1) for part in found)
        return Candidates(places, {"retrieval_score": retrieval, "reranker_score": best})

    def read(self, question: tf.Tensor, places: tf.Tensor) -> dict[str, tf.Tensor]:
        """Read documents for a question.

        Args:
            question: `<string>[batch]`.
            places: `<int32>[batch, k]`, in the corpus.

        Returns:
            `answer` `<string>`, `start` and `end` `<int32>`, bytes in the document, and
            `reading_score` `<float32>`, `[batch, k]` each. A document without tokens, and with the
            reader's `no_answer_threshold` one in which no answer is that much surer, has the empty
            answer.
        """
        k, flat = places.shape[1], tf.reshape(places, [-1])
        texts = tf.gather(self.search.texts, flat)
        found = self.reader.read(
            _repeated(self.reader.questions(question), k), texts, self._tokens.of(flat)
        )
        margin = found["score"] - found["no_answer_score"]
        silent = found["end"] <= found["start"]
        threshold = self.reader.model.no_answer_threshold
        if threshold is not None:
            silent |= -margin > threshold
        readings = {
            "answer": tf.where(silent, "", found["answer"]),
            "start": tf.where(silent, 0, found["start"]),
            "end": tf.where(silent, 0, found["end"]),
            "reading_score": margin,
        }
        return {name: tf.reshape(column, [-1, k]) for name, column in readings.items()}

    def choose(
        self,
        candidates: Candidates,
        readings: dict[str, tf.Tensor],
        weights: Mapping[str, float] | None = None,
    ) -> dict[str, tf.Tensor]:
        """Take the answer with the highest score; the empty one only where all are.

        Args:
            candidates: the documents, found by `find` or by others.
            readings: what `read` gives of them.
            weights: of each of the candidates' scores; None for the class's.

        Returns:
            What `signatures` says, `[batch]` each.
        """
        score = readings["reading_score"] + tf.add_n(
            [(weights or self._weights)[name] * part for name, part in candidates.scores.items()]
        )
        silent = readings["end"] <= readings["start"]
        all_silent = tf.reduce_all(silent, axis=1, keepdims=True)
        rank = tf.where(silent & ~all_silent, score.dtype.min, score)
        best = tf.reduce_max(rank, axis=1, keepdims=True)
        # A text that is there twice has equal scores but for rounding: its first place counts.
        is_best = rank >= best - _SAME * tf.maximum(1.0, tf.abs(best))
        place = tf.where(is_best, candidates.places, tf.int32.max)
        chosen = tf.argmin(place, axis=1, output_type=tf.int32)
        columns = readings | candidates.scores | {"score": score, "place": candidates.places}
        found = {name: _column(values, chosen) for name, values in columns.items()}
        place = found.pop("place")
        document = {
            "document": tf.gather(self.search.ids, place),
            "passage": tf.gather(self.search.texts, place),
        }
        return found | document

    def signatures(self, *, k: int = 5, reranked: int = 20) -> dict[str, Any]:
        """Give the functions that a bundle serves; neighbours don't change a row's answer.

        Args:
            k: documents that are read for a question; all where there are fewer.
            reranked: documents that the re-ranker looks at; k where that is more.

        Returns:
            `answer` and `serving_default`: `question` `<string>[batch]` → `answer`, `document` (its
            id) and `passage` (its text) `<string>[batch]`; `start` and `end` `<int32>[batch]`, the
            answer's first byte in the passage and the byte after its last; `score`,
            `reading_score`, `retrieval_score` and, with a re-ranker, `reranker_score`
            `<float32>[batch]`.
            `search`: that of `CorpusSearch`, before re-ranking.

        Raises:
            InputError: if k is below 1.
        """
        if k < 1:
            raise InputError(f"k must be at least 1. Received: {k}")
        k = min(k, self.search.num_documents)
        reranked = min(max(k, reranked), self.search.num_documents)
        search = self.search.signatures(self.preprocess, k=k)["search"]

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, "question")], autograph=False
        )
        def answer(question: tf.Tensor) -> dict[str, tf.Tensor]:
            candidates = self.find(question, k, reranked)
            with tf.name_scope("read"):
                readings = self.read(question, candidates.places)
            return self.choose(candidates, readings)

        return {"serving_default": answer, "answer": answer, "search": search}

    def probes(self) -> dict[str, dict[str, list[Any]]]:
        """Give example requests for the signature that takes more than text."""
        return self.search.probes()


def _repeated(questions: tf.RaggedTensor, k: int) -> tf.RaggedTensor:
    """Give each question k times: `[batch, (tokens)]` → `[batch · k, (tokens)]`."""
    return tf.gather(questions, tf.repeat(tf.range(tf.cast(questions.nrows(), tf.int32)), k))


def _column(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    return tf.gather(values, chosen, batch_dims=1)
