"""Fine-tuning for retrieval, as its user runs it, on small files; what other recipes make of it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfllm.models import DualEncoder, TextEmbedder
from tfllm.serving import Session

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = [
    *("--num_layers", 1, "--num_heads", 2, "--hidden_dim", 16, "--vocabulary_size", 200),
    *("--global_batch_size", 8, "--sequence_length", 24, "--max_steps", 4),
]
COLOURS, THINGS = "red green blue black white grey".split(), "car house bird boat hat".split()


def tree(folder) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def read_lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def beir(tmp_path):
    """Thirty documents, and a query for each of them; ten are for testing."""
    folder = tmp_path / "facts"
    (folder / "qrels").mkdir(parents=True)
    pairs = [(colour, thing) for colour in COLOURS for thing in THINGS]
    corpus = [
        {"_id": f"d{i}", "title": thing, "text": f"the {thing} of that man is {colour}"}
        for i, (colour, thing) in enumerate(pairs)
    ]
    queries = [{"_id": f"q{i}", "text": f"a {c} {t}"} for i, (c, t) in enumerate(pairs)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for name, numbers in (("train", range(20)), ("test", range(20, 30))):
        judged = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in numbers)]
        (folder / "qrels" / f"{name}.tsv").write_text("\n".join(judged) + "\n")
    return folder


def test_judged_queries_in_embedder_out(recipe, beir, tmp_path):
    flags = ("--train", beir, "--validation_fraction", 0.2, *TINY, "--strategy", "mirrored")
    done = recipe("finetune_retrieval", *flags, "--test_judged", "test", "--hard_negatives", 2)
    metrics = done.record["metrics"]
    names = {"ndcg_10", "mrr_10", "recall_100"}
    assert names | {f"test_{name}" for name in names} <= set(metrics)
    assert metrics["recall_100"] == metrics["test_recall_100"] == 1.0
    run_dir = tmp_path / "runs" / "finetune_retrieval"
    files = tree(run_dir)
    assert {"run.json", "model/modules.json", "model/config.json", "reranker_pairs.jsonl"} <= files
    assert {f"{part}_predictions.jsonl" for part in ("validation", "test")} <= files
    projected = {"projector_config.pbtxt", "vectors.tsv", "metadata.tsv"}
    assert {f"tensorboard/validation/{name}" for name in projected} <= files
    shown = (run_dir / "tensorboard" / "validation" / "metadata.tsv").read_text().splitlines()
    found = read_lines(run_dir / "validation_predictions.jsonl")
    assert len(shown) == 1 + len(found) + 30
    assert all(len(line["found"]) == 10 and len(line["relevant"]) == 1 for line in found)
    assert len(read_lines(run_dir / "test_predictions.jsonl")) == 10

    # The bundle, the folder and the saved embedder say the same.
    model = TextEmbedder.from_pretrained(run_dir / "model")
    with Session(tmp_path / done.record["export"]) as session:
        served = session.run("serving_default", {"text": ["a red car", "that man"]})["vector"]
        features = session.run("tokenize", {"text": ["a red car", "that man"]})
    np.testing.assert_allclose(model(features), served, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(served, axis=1), 1.0, atol=1e-5)

    # Pairs for a re-ranker: every query has its document and some that are not.
    lines = read_lines(run_dir / "reranker_pairs.jsonl")
    right = [line for line in lines if line["relevant"] == 1]
    wrong = [line for line in lines if line["relevant"] == 0]
    assert len(right) == 20 - len(found) and len(wrong) == 4 * len(right)
    for line in lines:
        _, colour, thing = line["query"].split()
        answers = line["document"] == f"{thing} the {thing} of that man is {colour}"
        assert answers == bool(line["relevant"])


@pytest.mark.slow
def test_the_index_and_the_re_ranker_take_what_it_leaves(recipe, beir, tmp_path):
    assert recipe("finetune_retrieval", "--train", beir, *TINY).code == 0
    run_dir = tmp_path / "runs" / "finetune_retrieval"
    index = ("--pretrained", run_dir / "model", "--corpus", beir, "--sequence_length", 24)
    done = recipe("build_index", *index, "--judged", "test", "--export_name", "facts")
    assert done.code == 0 and "10 queries of test" in done.out, done.err
    done = recipe(
        "finetune_text_classifier", "--train", run_dir / "reranker_pairs.jsonl", "--text", "query",
        "--text_pair", "document", "--label", "relevant", *TINY,
    )  # fmt: skip
    assert "accuracy" in done.record["metrics"]
    with Session(tmp_path / done.record["export"]) as session:
        request = {"text": ["a red car"] * 2, "text_pair": ["the car is red", "the hat is blue"]}
        assert session.run("serving_default", request)["scores"].shape == (2, 2)


@pytest.mark.slow
def test_two_towers_of_pairs(recipe, beir, tmp_path):
    rows = [
        {"query": f"a {c} {t}", "document": f"{t} of {c}", "negatives": [f"{t} of pink"]}
        for c in COLOURS
        for t in THINGS
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert recipe("finetune_retrieval", "--train", beir, *TINY).code == 0
    start = tmp_path / "runs" / "finetune_retrieval" / "model"
    how = ("--towers", "two", "--false_negative_margin", 0.1, "--validation_documents", 12)
    flags = ("--train", "pairs.jsonl", *how, *TINY[-6:], "--pretrained", start)
    done = recipe("finetune_retrieval", *flags, "--run_dir", "two", "--projected", 0)
    with Session(tmp_path / done.record["export"]) as session:
        asked = {
            name: session.run(name, {"text": ["a red car"]})["vector"]
            for name in ("serving_default", "query", "document")
        }
    np.testing.assert_array_equal(asked["serving_default"], asked["query"])
    assert np.abs(asked["query"] - asked["document"]).max() > 1e-5
    model = DualEncoder.from_pretrained(tmp_path / "two" / "model", towers="two")
    assert [*model.towers] == ["query", "document"]
    assert "two/tensorboard/validation/vectors.tsv" not in tree(tmp_path)
    further = ("--pretrained", tmp_path / "two" / "model", "--towers", "two", "--dry_run")
    done = recipe("finetune_retrieval", "--train", "pairs.jsonl", *TINY[-6:], *further)
    assert done.code == 0, done.err
    lines = read_lines(tmp_path / "two" / "reranker_pairs.jsonl")
    assert {line["document"].split()[-1] for line in lines if not line["relevant"]} == {"pink"}
    folders = {name: tmp_path / "two" / "model" / name for name in ("query", "document")}
    index = ("--pretrained", folders["document"], "--query_pretrained", folders["query"])
    done = recipe(
        "build_index", *index, "--corpus", beir, "--sequence_length", 24, "--judged", "test"
    )
    assert done.code == 0 and "10 queries of test" in done.out, done.err


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(recipe, beir, tmp_path):
    flags = ("--train", beir, *TINY[:-2], "--epochs", 4, "--checkpoint_steps", 2)
    assert recipe("finetune_retrieval", *flags, "--run_dir", "whole").code == 0
    command = [sys.executable, str(RECIPES / "finetune_retrieval.py"), *flags, "--run_dir", "parts"]
    command = [*map(str, command)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("Epoch 2"):
                process.kill()
    done = recipe("finetune_retrieval", *flags, "--run_dir", "parts")
    assert done.code == 0 and "Going on from step" in done.out
    weights = [TextEmbedder.from_pretrained(tmp_path / run / "model") for run in ("whole", "parts")]
    for one, other in zip(*(model.get_weights() for model in weights), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_can_t_be_fine_tuned(recipe, beir, tmp_path):
    judged = (beir / "qrels" / "train.tsv").read_text()
    (beir / "qrels" / "odd.tsv").write_text(judged + "q0\td99\t1\n")
    (tmp_path / "letters.tsv").write_text("query\tdocument\na\tb\nc\td\n")
    for flags, message in (
        (("--accumulate_steps", 2), "--accumulate_steps must be 1"),
        (("--temperature", 1e-300), "--temperature must be at least 1e-6. Received: 1e-300"),
        (("--pretrained", ""), "--pretrained must not be empty. Received: ''"),
        (("--tokenizer", ""), "--tokenizer must not be empty. Received: ''"),
        (("--train", "letters.tsv"), "--hard_negatives 1: BM25 finds no word in 2 documents"),
        (("--hard_negatives", 240), "--hard_negatives must be below the number of documents, 240"),
        (("--hard_negatives", -1), "--hard_negatives must be at least 0"),
        (("--pretrained", "x", "--lora_rank", 2, "--towers", "two"), "--lora_rank is for --towers"),
        (("--train", beir, "--judged", "odd"), "odd.tsv:22 names the document 'd99': none"),
        (("--train", beir, "--judged", "dev"), "--judged dev"),
    ):
        done = recipe("finetune_retrieval", *flags)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "runs").exists()
