"""The recipes that put a head on a backbone, as their user runs them, on small files."""

import json

import numpy as np
import pytest
from transformers import GPT2Config

from tfllm import text
from tfllm.models import (
    CausalLM,
    QuestionAnswerer,
    TextClassifier,
    TokenClassifier,
)
from tfllm.serving import Session

TINY = [
    *("--num_layers", 1, "--num_heads", 2, "--hidden_dim", 16, "--vocabulary_size", 300),
    *("--global_batch_size", 8, "--sequence_length", 48),
]


def tree(folder) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def read_lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path, rows, header="text\tlabel"):
    path.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")
    return path


def reviews(seed: int, rows: int = 60) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    words = (["dull", "poor", "bad"], ["fine", "good", "great"])
    things = ["film", "soup", "book", "song", "walk"]
    return [
        (f"a {rng.choice(words[label])} {rng.choice(things)} no {i}", str(label))
        for i, label in enumerate(labels)
    ]


@pytest.fixture
def nano_gpt2(tmp_path):
    tokenizer = text.train_byte_level_bpe(["a good film and a bad one"], 260)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=48, n_embd=8, n_layer=1, n_head=2
    )
    CausalLM.from_config(config).save_pretrained(tmp_path / "nano", tokenizer)
    return tmp_path / "nano"


def test_labelled_texts_in_bundle_out(recipe, tmp_path):
    write_rows(tmp_path / "train.tsv", reviews(1))
    write_rows(tmp_path / "dev.tsv", reviews(2, 20))
    files = ["--train", "train.tsv", "--validation", "dev.tsv", "--test", "dev.tsv"]
    how = ["--strategy", "mirrored", "--class_weights", "balanced", "--accumulate_steps", 2]
    done = recipe("finetune_text_classifier", *files, *TINY, *how, "--max_steps", 4)
    metrics = done.record["metrics"]
    assert 0 <= metrics["accuracy"] <= 1 and metrics["test_accuracy"] == metrics["accuracy"]
    assert {"loss", "macro_f1", "matthews", "f1/0", "accuracy/label 1"} <= set(metrics)
    run_dir = tmp_path / "runs" / "finetune_text_classifier"
    lines = read_lines(run_dir / "validation_predictions.jsonl")
    assert [(line["text"], line["label"]) for line in lines] == reviews(2, 20)
    right = np.mean([line["predicted"] == line["label"] for line in lines])
    assert right == pytest.approx(metrics["accuracy"])

    # The run's folder, the bundle and the file of predictions say the same.
    (tmp_path / "texts.txt").write_text("".join(line["text"] + "\n" for line in lines))
    asked = recipe("predict", "--model", run_dir, "--texts", "texts.txt", "--output", "a.jsonl")
    assert asked.code == 0 and asked.out == "", asked.err
    answers = read_lines(tmp_path / "a.jsonl")
    for line, answer in zip(lines, answers, strict=True):
        assert answer["text"] == line["text"] and answer["label"] == line["predicted"]
        wanted = [line["scores"][name] for name in answer["classes"]]
        np.testing.assert_allclose(answer["scores"], wanted, atol=1e-5)
    again = recipe("predict", "--model", run_dir, "--texts", "texts.txt", "--output", "a.jsonl")
    assert again.code == 2 and "a.jsonl exists already" in again.err
    assert TextClassifier.from_pretrained(run_dir / "model").labels == ("0", "1")


@pytest.mark.slow
def test_an_explanation_and_adapters_on_what_was_saved(recipe, tmp_path):
    files = ["--train", write_rows(tmp_path / "train.tsv", reviews(1))]
    assert recipe("finetune_text_classifier", *files, *TINY, "--max_steps", 4).code == 0
    run_dir = tmp_path / "runs" / "finetune_text_classifier"
    (tmp_path / "texts.txt").write_text("a good film\n")
    explained = recipe("predict", "--model", run_dir, "--texts", "texts.txt", "--explain")
    shares = json.loads(explained.out.splitlines()[0])["tokens"]
    assert shares[0][0] == "[CLS]" and all(np.isfinite(share) for _, share in shares)
    dry = recipe(
        "finetune_text_classifier", *files, *TINY[-4:], "--pretrained", run_dir / "model",
        "--lora_rank", 2, "--lora_dropout", 0.1, "--dry_run",
    )  # fmt: skip
    assert dry.code == 0 and "LoRA: " in dry.out and "exports" in dry.out, dry.err


@pytest.mark.slow
def test_numbers_and_several_labels(recipe, tmp_path):
    rows = [(t, t, str(i % 6)) for i, (t, _) in enumerate(reviews(1))]
    write_rows(tmp_path / "pairs.tsv", rows, "a\tb\tscore")
    flags = ["--text", "a", "--text_pair", "b", "--label", "score", "--kind", "regression"]
    done = recipe(
        "finetune_text_classifier", "--train", "pairs.tsv", *flags, *TINY, "--max_steps", 2
    )
    assert {"spearman", "pearson"} <= set(done.record["metrics"])
    with Session(tmp_path / done.record["export"]) as session:
        request = {"text": ["a", "b c"], "text_pair": ["", "d"]}
        assert session.run("serving_default", request)["score"].shape == (2,)

    lines = [{"text": t, "label": ["x", "y"][: i % 3]} for i, (t, _) in enumerate(reviews(1))]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = ["--train", "many.jsonl", "--kind", "multi_label", "--max_steps", 2]
    done = recipe("finetune_text_classifier", *flags, *TINY)
    assert "subset_accuracy" in done.record["metrics"]
    saved = TextClassifier.from_pretrained(
        tmp_path / "runs" / "finetune_text_classifier-2" / "model"
    )
    assert saved.labels == ("x", "y") and len(saved.thresholds) == 2


@pytest.fixture
def tagged(tmp_path) -> list:
    """Sentences with names, as flags of the recipe."""
    people, places = ["Ann", "Bob Ray", "Cy"], ["Oslo", "New York", "Rome"]
    rng = np.random.default_rng(0)
    sentences = []
    for _ in range(60):
        words = [("saw", "O"), ("in", "O")]
        who, where = rng.choice(people).split(), rng.choice(places).split()
        tag = lambda kind, part: [(w, f"{'IB'[i == 0]}-{kind}") for i, w in enumerate(part)]  # noqa: E731
        sentences.append([*tag("PER", who), words[0], *tag("LOC", where)])
    text = "\n\n".join("\n".join(f"{w} X {t}" for w, t in s) for s in sentences) + "\n"
    (tmp_path / "train.txt").write_text(text)
    return ["--train", "train.txt", *TINY, "--crf", "--overlap", 8]


def test_tagged_words_in_bundle_out(recipe, tmp_path, tagged):
    done = recipe("finetune_token_classifier", *tagged, "--max_steps", 30, "--learning_rate", 0.01)
    metrics = done.record["metrics"]
    assert metrics["f1"] > 0.9 and metrics["illegal_sequences"] == 0
    run_dir = tmp_path / "runs" / "finetune_token_classifier"
    model = TokenClassifier.from_pretrained(run_dir / "model")
    assert model.crf is not None and model.labels[0] == "O"
    asked = recipe("predict", "--model", run_dir, "--texts", "sentence.txt")
    assert asked.code == 2 and "sentence.txt can't be read" in asked.err
    (tmp_path / "sentence.txt").write_text("Ann saw New York\n\n")
    asked = recipe("predict", "--model", run_dir, "--texts", "sentence.txt")
    first, second = map(json.loads, asked.out.splitlines())
    assert [e["entity"] for e in first["entities"]] == ["Ann", "New York"]
    assert second["entities"] == []


@pytest.mark.slow
def test_parts_of_speech_are_whatever_the_tags_are(recipe, tagged):
    flags = ["--scheme", "none", "--max_steps", 3, "--tag_column", 2]
    done = recipe("finetune_token_classifier", *tagged, *flags)
    assert {"accuracy", "sentence_accuracy"} <= set(done.record["metrics"])


def test_questions_in_bundle_out(recipe, tmp_path):
    rows = []
    for i, name in enumerate(["Ann", "Bob", "Cy", "Di", "Ed"] * 6):
        context = f"{name} sat on chair {i} . Nobody sat on the old sofa ."
        answer = {"text": [name], "answer_start": [0]}
        question = f"Who sat on chair {i} ?"
        rows.append({"question": question, "context": context, "answers": answer})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--train", "train.jsonl", *TINY, "--overlap", 8, "--max_question_tokens", 16]
    flags += ["--validation_fraction", 0.2]
    done = recipe("finetune_question_answering", *flags, "--max_steps", 4)
    assert {"f1", "exact_match", "loss"} <= set(done.record["metrics"])
    run_dir = tmp_path / "runs" / "finetune_question_answering"
    assert isinstance(QuestionAnswerer.from_pretrained(run_dir / "model"), QuestionAnswerer)
    lines = read_lines(run_dir / "validation_predictions.jsonl")
    # The served answer is the evaluated one.
    requests = [{"question": x["question"], "context": x["context"]} for x in lines]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(r) + "\n" for r in requests))
    asked = recipe("predict", "--model", run_dir, "--texts", "asked.jsonl")
    answers = [json.loads(line)["answer"] for line in asked.out.splitlines()]
    assert answers == [line["predicted"] for line in lines]


@pytest.mark.slow
def test_questions_without_answers_are_answered_by_nothing(recipe, tmp_path):
    rows = []
    for i in range(40):
        context = f"Ann sat on chair {i} ."
        question = "Who sat there ?" if i % 2 else "Which colour is the sea ?"
        found = (
            {"text": ["Ann"], "answer_start": [0]} if i % 2 else {"text": [], "answer_start": []}
        )
        rows.append({"question": question, "context": context, "answers": found})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--train", "train.jsonl", "--validation", "train.jsonl", *TINY, "--overlap", 8]
    flags += ["--max_question_tokens", 16, "--max_steps", 40, "--epochs", 8]
    done = recipe("finetune_question_answering", *flags, "--learning_rate", 0.01)
    metrics = done.record["metrics"]
    assert metrics["exact_match/unanswerable"] > 50 and metrics["exact_match/answerable"] > 50
    assert "No answer is given above a margin of" in done.out
    run_dir = tmp_path / "runs" / "finetune_question_answering"
    model = QuestionAnswerer.from_pretrained(run_dir / "model")
    assert model.no_answer_threshold is not None
    lines = read_lines(run_dir / "validation_predictions.jsonl")
    asked = recipe("predict", "--model", run_dir, "--texts", "train.jsonl")
    assert asked.code == 2 and "does not have named input: answers" in asked.err
    requests = [json.dumps({n: x[n] for n in ("question", "context")}) + "\n" for x in lines]
    (tmp_path / "asked.jsonl").write_text("".join(requests))
    asked = recipe("predict", "--model", run_dir, "--texts", "asked.jsonl")
    answers = [json.loads(line)["answer"] for line in asked.out.splitlines()]
    assert answers == [line["predicted"] for line in lines] and "" in answers


def test_texts_in_vectors_out(recipe, tmp_path):
    (tmp_path / "texts.txt").write_text("a fine day\na dull film\na fine day\n")
    flags = ["--texts", "texts.txt", "--output", "v.npy", "--sequence_length", 16]
    done = recipe("embed_texts", *flags, "--export_name", "vectors")
    assert done.code == 0, done.err
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.shape == (3, 128) and np.allclose(vectors[0], vectors[2], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    with Session(tmp_path / "savedmodels" / "vectors" / "1") as session:
        served = session.run("serving_default", {"text": ["a dull film"]})["vector"]
    np.testing.assert_allclose(served[0], vectors[1], atol=1e-5)
    again = recipe("embed_texts", *flags)
    assert again.code == 2 and "--output exists already" in again.err


class TestBadInput:
    """One line, exit code 2, nothing left behind."""

    @pytest.fixture
    def refused(self, recipe, tmp_path):
        def run(name, *flags) -> str:
            before = tree(tmp_path)
            done = recipe(name, *flags)
            assert done.code == 2, done.err
            assert "Traceback" not in done.err and len(done.err.splitlines()) == 1
            assert tree(tmp_path) == before
            return done.err

        return run

    def test_labels(self, refused, tmp_path):
        name = "finetune_text_classifier"
        write_rows(tmp_path / "t.tsv", reviews(1))
        write_rows(tmp_path / "v.tsv", [*reviews(2, 3), ("a film", "new")])
        error = refused(name, "--train", "t.tsv", "--validation", "v.tsv")
        assert "--validation" in error and "v.tsv:5 has the label 'new'" in error
        write_rows(tmp_path / "one.tsv", [(t, "x") for t, _ in reviews(1)])
        assert "one.tsv:2, have the label 'x' alone" in refused(name, "--train", "one.tsv")
        write_rows(tmp_path / "blank.tsv", [*reviews(1, 5), ("   ", "1")])
        assert "blank.tsv:7" in refused(name, "--train", "blank.tsv")
        assert "'text_b'" in refused(name, "--train", "t.tsv", "--text_pair", "text_b")
        error = refused(name, "--train", "t.tsv", "--kind", "regression", "--label", "text")
        assert "t.tsv:2" in error and "number" in error
        error = refused(name, "--train", "t.tsv", "--best_metric", "spearman")
        assert "--best_metric must be one of accuracy, macro_f1" in error

    def test_pairs_that_a_backbone_cannot_part(self, refused, tmp_path, nano_gpt2):
        write_rows(tmp_path / "p.tsv", [(t, t, n) for t, n in reviews(1)], "a\tb\tlabel")
        error = refused(
            "finetune_text_classifier", "--train", "p.tsv", "--text", "a", "--text_pair", "b",
            "--pretrained", nano_gpt2, "--sequence_length", 48,
        )  # fmt: skip
        assert "pair" in error

    def test_tags(self, refused, tmp_path):
        name = "finetune_token_classifier"
        (tmp_path / "t.txt").write_text("Ann B-PER\nsaw X-PER\n")
        assert "t.txt:2" in refused(name, "--train", "t.txt")
        (tmp_path / "u.txt").write_text("Ann\n")
        assert "u.txt:1 has 1 columns" in refused(name, "--train", "u.txt")

    def test_answers(self, refused, tmp_path):
        name = "finetune_question_answering"
        row = {"question": "Who?", "context": "Ann sat.", "answers": {"text": ["Bob"]}}
        row["answers"]["answer_start"] = [0]
        (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
        error = refused(name, "--train", "q.jsonl")
        assert "q.jsonl:1" in error and "'Bob'" in error
        error = refused(name, "--train", "q.jsonl", "--tokenizer", "x", "--pretrained", "y")
        assert "--tokenizer is for a model from scratch" in error
