r"""Answer questions out of a corpus: find documents, re-rank and read them, in one bundle.

    python recipes/answer_from_corpus.py --corpus dev-v1.1.json \
        --retriever sentence-transformers/all-MiniLM-L6-v2 \
        --reader runs/finetune_question_answering/model --question "Who won Super Bowl 50?"
    python recipes/answer_from_corpus.py --corpus 'docs/*.jsonl' --retriever R --reader Q \
        --questions questions.txt --export_name answers
    python recipes/answer_from_corpus.py --corpus dev-v1.1.json --retriever R --reader Q \
        --measure dev-v1.1.json --measured_questions 1000

Without a question it asks for some in the terminal. Vectors that build_index.py made of the same
corpus with the same flags are taken from its --output, here --index. --measure needs
tfllm[retrieval], for BM25 beside the retriever.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfllm import cli, data, export, metrics, models, retrieval, serving, text, training
from tfllm.data import readers, tasks
from tfllm.errors import InputError

Ask = Callable[[Sequence[str]], list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of this recipe."""

    corpus: tuple[str, ...] = ()
    """Documents: .txt, one a line; .jsonl, .csv, .tsv, .parquet; SQuAD's .json; or one folder in
    BEIR's layout."""
    retriever: str = ""
    """What embeds documents: a sentence-transformers or transformers folder, or a hub name."""
    query_retriever: str | None = None
    """What embeds questions, where that is another model. Default: --retriever."""
    reader: str = ""
    """What finds answers: the model folder of a run of finetune_question_answering.py, or a name
    on the hub."""
    reranker: str | None = None
    """What orders found documents anew: a text classifier of pairs, (question, document) → a
    number, or two classes whose second one is that the document fits."""
    question: str | None = None
    """One question."""
    questions: str | None = None
    """File of questions, one a line; - reads what is piped in. Prints one JSON object a line."""
    measure: str | None = None
    """SQuAD's JSON of questions to measure with: documents found, exact match and F1; beside BM25
    with the same reader."""
    measured_questions: int | None = None
    """Measure with so many of them, evenly spaced. Default: all."""
    k: int = 5
    """Documents that are read for a question."""
    reranked: int = 20
    """Documents that --reranker looks at."""
    retrieval_weight: float = 40.0
    """How much a document's dot product with the question counts beside the reading."""
    reranker_weight: float = 1.0
    """How much the re-ranker's score counts beside the reading."""
    bm25_weight: float = 2.0
    """How much BM25's score counts beside the reading, for --measure."""
    document_id: str = "_id"
    """Field of a document's id."""
    title: str = "title"
    """Field of its title, which may be missing."""
    text: str = "text"
    """Field of its text."""
    on_error: Literal["refuse", "skip"] = "refuse"
    """Whether a document that can't be read ends the run, or is left out."""
    index: str = "index"
    """Folder of vectors.npy, as build_index.py's --output; made if it isn't there."""
    sequence_length: int = 256
    """Tokens after which the retriever cuts off a document or a question."""
    batch_size: int = 32
    """Documents that are embedded, or questions that are answered, in a batch."""
    reader_sequence_length: int = 384
    """Tokens of the reader's window, as it was trained."""
    overlap: int = 128
    """Tokens of a document that a window shares with the one before it, as it was trained."""
    max_question_tokens: int = 64
    """Longer questions are cut."""
    max_answer_tokens: int = 30
    """No longer answer is given."""
    reranker_sequence_length: int = 256
    """Tokens of the re-ranker's pair; the document's end is cut off."""
    export_dir: str = "savedmodels"
    """Folder that TF Serving bundles go to."""
    export_name: str | None = None
    """Name of a bundle to export; none is exported without it."""
    storage: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the bundle's weights and vectors are stored as."""
    allow_pickle: bool = False
    """Read models' pytorch_model.bin, a pickle, which can run code. Needs torch."""

    def check(self) -> None:
        """Refuse what can't be done, before TensorFlow is imported."""
        cli.require(bool(self.corpus), "corpus", self.corpus, "must name the documents' files")
        cli.require(
            bool(self.retriever), "retriever", self.retriever, "must name what embeds texts"
        )
        cli.require(bool(self.reader), "reader", self.reader, "must name what finds answers")
        asked = [self.question, self.questions, self.measure]
        one = sum(given is not None for given in asked) <= 1
        rule = "is one of three: give --question, --questions or --measure"
        cli.require(one, "question", self.question, rule)
        blank = self.question is not None and not self.question.strip()
        cli.require(not blank, "question", self.question, "must not be blank")
        counts = ("k", "reranked", "batch_size", "measured_questions")
        lengths = ("sequence_length", "reader_sequence_length", "reranker_sequence_length")
        for name in (*counts, *lengths, "max_question_tokens", "max_answer_tokens"):
            value = getattr(self, name)
            cli.require(value is None or value >= 1, name, value, "must be at least 1")
        cli.require(self.overlap >= 0, "overlap", self.overlap, "must be at least 0")
        for name in ("retrieval_weight", "reranker_weight", "bm25_weight"):
            value = getattr(self, name)
            cli.require(math.isfinite(value), name, value, "must be a finite number")
        check_head("reader", self.reader, "QuestionAnswering")
        if self.reranker is not None:
            check_head("reranker", self.reranker, "SequenceClassification")
        cli.check_writable(Path(self.index), "index")
        cli.check_writable(Path(self.export_dir), "export_dir")
        if self.export_name is not None:
            export.check_name(self.export_name)


def main(config: Config) -> None:
    """Corpus and questions in, answers out."""
    # 1. Corpus and questions; what can be refused is refused before TensorFlow is imported
    config.check()
    reader = tasks.read_documents(
        config.corpus,
        document_id=config.document_id,
        title=config.title,
        text=config.text,
        on_error=config.on_error,
    )
    documents = list(reader)
    rule = f"must be at most {len(documents)}, the documents of the corpus"
    cli.require(config.k <= len(documents), "k", config.k, rule)
    measured = measured_questions(config)

    # 2. Models
    load = models.TextEmbedder.from_pretrained
    embedder = load(config.retriever, pickle=config.allow_pickle)
    asks = config.query_retriever or config.retriever
    query_embedder = load(asks, pickle=config.allow_pickle) if config.query_retriever else embedder
    preprocess = text.Preprocessor(text.load(asks), sequence_length=config.sequence_length)

    # 3. Vectors, as build_index.py makes them; they go on where a run was stopped
    vectors = embedded(config, embedder, reader)
    search = models.CorpusSearch(
        query_embedder,
        vectors,
        ids=[document["id"] for document in documents],
        texts=[document["text"] for document in documents],
    )

    # 4. Search, re-ranker and reader in one
    answerer = models.CorpusAnswerer(
        search,
        preprocess,
        context_reader(config),
        reranker=pair_ranker(config),
        retrieval_weight=config.retrieval_weight,
        reranker_weight=config.reranker_weight,
    )
    signatures = answerer.signatures(k=config.k, reranked=config.reranked)

    # 5. Answer, or measure
    def ask(questions: Sequence[str]) -> list[dict[str, Any]]:
        found = {name: value.numpy() for name, value in signatures["answer"](questions).items()}
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]

    if config.question is not None:
        print(shown(config, ask([config.question])[0]))
    elif config.questions is not None:
        answer_lines(config, ask)
    elif measured:
        for line in measurement(config, answerer, documents, measured):
            print(line)
    elif config.export_name is None:
        converse(config, ask)

    # 6. Export
    if config.export_name is not None:
        bundle = export.export_bundle(
            signatures,
            config.export_dir,
            config.export_name,
            modules=[answerer],
            probes=answerer.probes(),
            tokenizer=preprocess.tokenizer,
            card=export.Card("answers from a corpus"),
            storage=config.storage,
        )
        asked = measured[0]["question"] if measured else config.question or "Who was the first?"
        print(f"\nThe bundle {bundle} answers questions.", file=sys.stderr)
        print(f"\n{serving.serve_commands_text(bundle, asked)}\n", file=sys.stderr)


def check_head(flag: str, name: str, head: str, architectures: Sequence[str] | None = None) -> None:
    """Refuse a folder whose model has no head of the kind."""
    path = Path(name) / "config.json"
    if architectures is None and Path(name).is_dir():
        inside = " (it has a folder model: give that)" if (Path(name) / "model").is_dir() else ""
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"--{flag} {name} is no model's folder{inside}: config.json can't be read"
            ) from error
        architectures = config.get("architectures") or []
    if architectures is not None and not any(f"For{head}" in each for each in architectures):
        raise InputError(
            f"--{flag} must be a model that was trained for it (…For{head}). Received: {name}, "
            f"{', '.join(architectures) or 'which names none'}"
        )


def measured_questions(config: Config) -> list[dict[str, Any]]:
    """Read the questions to measure with, all or evenly spaced ones; none without --measure."""
    if config.measure is None:
        return []
    retrieval.Bm25(["see that it is installed"])
    questions = list(readers.Squad(data.find_files([config.measure], "--measure")))
    count = min(len(questions), config.measured_questions or len(questions))
    return [questions[i * len(questions) // count] for i in range(count)]


def embedded(config: Config, model: models.TextEmbedder, documents: readers.Reader) -> np.ndarray:
    """Give the documents' vectors, out of the file where it is whole."""
    tokenizer = data.FastTokenizer.of(text.load(config.retriever))
    encoder = data.TextEncoder(tokenizer, config.sequence_length)
    return retrieval.embed_corpus(
        Path(config.index) / "vectors.npy",
        training.RowPredictor(model),
        data.task_batches(documents, encoder, config.batch_size),
        width=model.config.hidden_size,
        digest=models.digest_of_model(model),
    )


def context_reader(config: Config) -> models.ContextReader:
    """Load what finds answers."""
    model = models.QuestionAnswerer.from_pretrained(
        config.reader, max_answer_tokens=config.max_answer_tokens, pickle=config.allow_pickle
    )
    check_head("reader", config.reader, "QuestionAnswering", model.config.architectures or [])
    preprocess = text.Preprocessor(
        text.load(config.reader), sequence_length=config.reader_sequence_length
    )
    return models.ContextReader(
        model,
        preprocess,
        overlap=config.overlap,
        max_question_tokens=config.max_question_tokens,
    )


def pair_ranker(config: Config) -> models.PairRanker | None:
    """Load what orders documents anew, if anything does."""
    if config.reranker is None:
        return None
    return models.PairRanker(
        models.TextClassifier.from_pretrained(config.reranker, pickle=config.allow_pickle),
        text.Preprocessor(
            text.load(config.reranker), sequence_length=config.reranker_sequence_length
        ),
        max_question_tokens=config.max_question_tokens,
    )


def shown(config: Config, answer: dict[str, Any], around: int = 200) -> str:
    """Write an answer for a person, marked in the passage that it stands in."""
    passage, start, end = answer["passage"], answer["start"], answer["end"]
    before, marked, after = (
        part.decode(errors="replace")
        for part in (passage[:start], passage[start:end], passage[end:])
    )
    before = before if len(before) <= around else f"…{before[-around:]}"
    after = after if len(after) <= around else f"{after[:around]}…"
    parts = f"reading {answer['reading_score']:.2f}"
    parts += f" + {config.retrieval_weight:g} · retrieval {answer['retrieval_score']:.2f}"
    if config.reranker:
        parts += f" + {config.reranker_weight:g} · reranker {answer['reranker_score']:.2f}"
    return (
        f"{answer['answer'].decode() or '(no answer)'}\n"
        f"  document  {answer['document'].decode()}\n"
        f"  score     {answer['score']:.2f} = {parts}\n"
        f"  passage   {before}[{marked}]{after}"
    )


def answer_lines(config: Config, ask: Ask) -> None:
    """Answer a file of questions: one JSON object a line."""
    with (
        cli.input_lines(config.questions or "-", "questions") as lines,
        cli.progress("answering", "questions") as done,
    ):
        while block := list(itertools.islice(lines, config.batch_size)):
            questions = [question_of(line) for line in block]
            for question, answer in zip(questions, ask(questions), strict=True):
                row = {name: plain(value) for name, value in answer.items()}
                print(json.dumps({"question": question} | row, ensure_ascii=False))
            done(len(block))


def question_of(line: cli.InputLine) -> str:
    """Take the question out of a line."""
    given = line.given.get("question") if isinstance(line.given, dict) else line.given
    if not isinstance(given, str) or not given.strip():
        raise InputError(
            f"--questions {line.place} holds no question. Give one, or remove the line"
        )
    return given


def plain(value: Any) -> Any:
    """Give what JSON can carry."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value.item()


def converse(config: Config, ask: Ask) -> None:
    """Answer what a person types, until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - lets the arrow keys work
    print("Type a question. Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            typed = input("> ")
        except EOFError:
            print()
            return
        if typed.strip():
            print(shown(config, ask([typed])[0]), end="\n\n")


def measurement(
    config: Config,
    answerer: models.CorpusAnswerer,
    documents: list[dict[str, str]],
    questions: list[dict[str, Any]],
) -> Iterator[str]:
    """Answer the questions, with the retriever and with BM25; say what was found and answered."""
    import tensorflow as tf

    strings, places = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, config.k], tf.int32)
    reranked = min(max(config.k, config.reranked), len(documents))
    find = tf.function(
        lambda part: answerer.find(part, config.k, reranked),
        input_signature=[strings],
        autograph=False,
    )
    read = tf.function(answerer.read, input_signature=[strings, places], autograph=False)
    bm25 = retrieval.Bm25(document["text"] for document in documents)

    def find_by_words(part: list[str]) -> models.Candidates:
        places, scores = bm25.search(part, config.k)
        # Where no document shares a word any will do.
        places = np.where(places < 0, np.arange(config.k), places).astype(np.int32)
        return models.Candidates(tf.constant(places), {"retrieval_score": tf.constant(scores)})

    own = "retriever, re-ranked" if config.reranker else "retriever"
    searches = {own: (find, None), "BM25": (find_by_words, {"retrieval_score": config.bm25_weight})}
    yield f"{len(questions):,} questions, {len(documents):,} documents, {config.k} read for each:"
    yield f"{'':20}  own paragraph found  holds an answer  exact match     F1"
    for name, (search, weights) in searches.items():
        answers, found = [], []
        with cli.progress(name, "questions") as done:
            for first in range(0, len(questions), config.batch_size):
                part = [q["question"] for q in questions[first : first + config.batch_size]]
                candidates = search(part)
                readings = read(part, candidates.places)
                answer = answerer.choose(candidates, readings, weights)["answer"].numpy()
                answers += [each.decode() for each in answer]
                found += candidates.places.numpy().tolist()
                done(len(part))
        yield f"{name:20}  {scored(documents, questions, found, answers)}"


def scored(
    documents: list[dict[str, str]],
    questions: list[dict[str, Any]],
    found: list[list[int]],
    answers: list[str],
) -> str:
    """Write a line of the table, in percent of the questions."""
    # A document's text is its title, a space and the paragraph.
    paragraphs = [d["text"].removeprefix(d["title"]).strip() for d in documents]
    pairs = list(zip(questions, found, strict=True))
    hits = [q["context"].strip() in [paragraphs[place] for place in row] for q, row in pairs]
    holds = [
        any(answer in documents[place]["text"] for place in row for answer in question["answers"])
        for question, row in pairs
    ]
    references = {str(row): question["answers"] for row, question in enumerate(questions)}
    scores = metrics.answers(dict(zip(references, answers, strict=True)), references)
    columns = (100 * np.mean(hits), 100 * np.mean(holds), scores["exact_match"], scores["f1"])
    return "{:19.1f}  {:15.1f}  {:11.1f}  {:5.1f}".format(*columns)


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
