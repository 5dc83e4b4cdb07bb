import json

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig

from tfllm.models import QuestionAnswerer, TextClassifier, TextEmbedder
from tfllm.serving import Session
from tfllm.text import train_wordpiece

CONTEXTS = ["the cat sat on the mat", "a dog saw the sea", "the old house by the sea"]
QUESTIONS = ["who sat on the mat", "who saw the sea", "what is by the sea"]
ANSWERS = ["the cat", "a dog", "the old house"]


def config(tokenizer, seed: int) -> BertConfig:
    tf.keras.utils.set_random_seed(seed)
    return BertConfig(
        vocab_size=tokenizer.vocabulary_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=0.5,
    )


@pytest.fixture
def models(tmp_path):
    """Folders of small models that nobody has trained."""
    tokenizer = train_wordpiece([*CONTEXTS, *QUESTIONS] * 2, 80)
    made = {
        "retriever": TextEmbedder.from_config(config(tokenizer, 1)),
        "reader": QuestionAnswerer.from_config(config(tokenizer, 2)),
        "reranker": TextClassifier.from_config(config(tokenizer, 3), kind="regression", labels=[]),
    }
    for name, model in made.items():
        model.save_pretrained(tmp_path / name, tokenizer)
    return {name: tmp_path / name for name in made}


@pytest.fixture
def squad(tmp_path):
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": question,
                    "question": question,
                    "answers": [{"text": answer, "answer_start": context.index(answer)}],
                }
            ],
        }
        for context, question, answer in zip(CONTEXTS, QUESTIONS, ANSWERS, strict=True)
    ]
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": [{"title": "Mat", "paragraphs": paragraphs}]}))
    return path


def flags(models, corpus, *names):
    given = [
        part for name in ("retriever", "reader", *names) for part in (f"--{name}", models[name])
    ]
    lengths = ("sequence_length", "reader_sequence_length", "reranker_sequence_length")
    short = [part for name in lengths for part in (f"--{name}", 24)]
    return (
        *given,
        *short,
        "--corpus",
        corpus,
        "--overlap",
        3,
        "--max_question_tokens",
        8,
        "--k",
        2,
    )


def test_questions_are_answered_and_measured_beside_bm25(recipe, models, squad, tmp_path):
    done = recipe("answer_from_corpus", *flags(models, squad), "--measure", squad)
    assert done.code == 0, done.err
    head, columns, *rows = done.out.splitlines()
    assert head == "3 questions, 3 documents, 2 read for each:"
    assert [row.split("  ")[0] for row in rows] == ["retriever", "BM25"]
    own, holds, *_ = map(float, rows[1].removeprefix("BM25").split())
    assert own == holds == 100.0
    assert np.load(tmp_path / "index" / "vectors.npy").shape == (3, 8)


@pytest.mark.slow
def test_a_file_of_questions(recipe, models, squad, tmp_path):
    (tmp_path / "asked.txt").write_text("\n".join(QUESTIONS))
    asked = flags(models, squad, "reranker")
    done = recipe("answer_from_corpus", *asked, "--questions", tmp_path / "asked.txt")
    assert done.code == 0, done.err
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer["question"] for answer in answers] == QUESTIONS
    for answer in answers:
        passage, span = answer["passage"].encode(), slice(answer["start"], answer["end"])
        assert passage[span].decode() == answer["answer"] != ""
        assert answer["document"] in {"Mat:1", "Mat:2", "Mat:3"}
        assert {"score", "reading_score", "retrieval_score", "reranker_score"} <= answer.keys()


@pytest.mark.slow
def test_vectors_of_build_index_are_taken_and_the_bundle_answers(recipe, models, squad, tmp_path):
    built = recipe(
        *("build_index", "--pretrained", models["retriever"], "--corpus", squad),
        *("--sequence_length", 24),
    )
    assert built.code == 0, built.err
    written = (tmp_path / "index" / "vectors.npy").stat().st_mtime_ns
    asked = (*flags(models, squad), "--question", QUESTIONS[0], "--export_name", "answers")
    done = recipe("answer_from_corpus", *asked)
    assert done.code == 0, done.err
    assert (tmp_path / "index" / "vectors.npy").stat().st_mtime_ns == written
    answer, document, score, passage = done.out.splitlines()
    with Session(tmp_path / "savedmodels" / "answers" / "1") as session:
        served = session.run("serving_default", {"question": QUESTIONS[:1]})
    assert served["answer"][0].decode() == answer
    assert document.split() == ["document", served["document"][0].decode()]
    assert f"[{answer}]" in passage and f"{served['score'][0]:.2f}" in score
    assert "docker run" in done.err


def test_what_can_t_be_answered_from(recipe, models, squad, tmp_path):
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"_id": "1", "text": "a"}\n{"_id": "1", "text": "b"}\n')
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"_id": "1", "text": "a"}\n{"_id": "2", "text": " "}\n')
    good = flags(models, squad)
    for given, message in (
        ((), "--corpus must name the documents' files"),
        ((*good, "--corpus", twice), "twice.jsonl:2 has the id '1' of"),
        ((*good, "--corpus", empty), "empty.jsonl:2 field 'text' is blank"),
        ((*good, "--k", 4), "--k must be at most 3, the documents of the corpus. Received: 4"),
        ((*good, "--k", 0), "--k must be at least 1"),
        ((*good, "--overlap", -1), "--overlap must be at least 0"),
        ((*good, "--max_question_tokens", 0), "--max_question_tokens must be at least 1"),
        ((*good, "--retrieval_weight", "nan"), "--retrieval_weight must be a finite number"),
        ((*good, "--reader", models["retriever"]), "--reader must be a model that was trained"),
        ((*good, "--reader", tmp_path), "config.json can't be read"),
        ((*good, "--reranker", models["reader"]), "--reranker must be a model that was trained"),
        ((*good, "--question", "a", "--measure", squad), "--question is one of three"),
        ((*good, "--question", " "), "--question must not be blank"),
        ((*good, "--measure", twice), "twice.jsonl:2 is no JSON"),
    ):
        done = recipe("answer_from_corpus", *given)
        assert done.code == 2 and message in done.err, done.err
        assert done.err.count("\n") == 1
    assert not (tmp_path / "index").exists()
