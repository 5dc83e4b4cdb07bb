import json

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig

from tfllm.models import TextEmbedder
from tfllm.retrieval import FaissIndex
from tfllm.serving import Session
from tfllm.text import train_wordpiece

TEXTS = {"c1": "the cat sat on the mat", "c2": "a dog saw the sea", "c3": "old house", "c4": "rain"}
QUERIES = {"q1": "the cat sat on the mat", "q2": "old house", "q3": "rain"}


@pytest.fixture
def embedder(tmp_path):
    """A folder with a small BERT that nobody has trained; equal texts are nearest all the same."""
    tokenizer = train_wordpiece([*TEXTS.values()] * 2, 80)
    tf.keras.utils.set_random_seed(1)
    config = BertConfig(
        vocab_size=tokenizer.vocabulary_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    TextEmbedder.from_config(config).save_pretrained(tmp_path / "small", tokenizer)
    return tmp_path / "small"


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "facts"
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", TEXTS), ("queries", QUERIES)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    judged = "query-id\tcorpus-id\tscore\nq1\tc1\t1\nq2\tc3\t1\nq3\tc2\t0\n"
    (folder / "qrels" / "test.tsv").write_text(judged)
    return folder


def test_a_corpus_is_embedded_measured_and_served(recipe, embedder, beir, tmp_path):
    flags = ("--pretrained", embedder, "--corpus", beir, "--sequence_length", 16)
    done = recipe("build_index", *flags, "--judged", "test", "--export_name", "facts", "--k", 2)
    assert done.code == 0, done.err
    assert "curl http://127.0.0.1:8501/v1/models/facts:predict" in done.out
    assert "3 queries of test: ndcg_10 0.6667, mrr_10 0.6667, recall_100 0.6667." in done.out
    vectors = np.load(tmp_path / "index" / "vectors.npy")
    assert vectors.shape == (4, 8) and vectors.dtype == np.float32
    bundle = tmp_path / "savedmodels" / "facts" / "1"
    answer = Session(bundle).run("serving_default", {"query": ["old house", "rain"]})
    assert answer["ids"][:, 0].tolist() == [b"c3", b"c4"] and answer["ids"].shape == (2, 2)
    written = (tmp_path / "index" / "vectors.npy").stat().st_mtime_ns
    again = recipe("build_index", *flags, "--faiss", "flat")
    assert again.code == 0 and "4 documents" in again.out
    places, _ = FaissIndex.load(tmp_path / "index" / "index.faiss").search(vectors, 1)
    assert places[:, 0].tolist() == [0, 1, 2, 3]
    assert (tmp_path / "index" / "vectors.npy").stat().st_mtime_ns == written


def test_what_can_t_be_searched(recipe, beir, tmp_path):
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"_id": "1", "text": "a"}\n{"_id": "1", "text": "b"}\n')
    judged = (beir / "qrels" / "test.tsv").read_text()
    (beir / "qrels" / "odd.tsv").write_text(judged + "q9\tc1\t1\n")
    (beir / "qrels" / "none.tsv").write_text(judged.replace("\t1\n", "\t0\n"))
    for flags, message in (
        ((), "--pretrained must name what embeds texts"),
        (("--pretrained", "x"), "--corpus must name the documents' files"),
        (("--pretrained", "x", "--corpus", twice, "--judged", "test"), "--judged is for a folder"),
        (("--pretrained", "x", "--corpus", tmp_path / "no.txt"), "--corpus"),
        (("--pretrained", "x", "--corpus", twice, "--output", ""), "--output must not be empty"),
        (("--pretrained", "x", "--corpus", twice), "twice.jsonl:2 has the id '1' of"),
        (("--pretrained", "x", "--corpus", beir, "--judged", "odd"), "odd.tsv:5 names the query"),
        (("--pretrained", "x", "--corpus", beir, "--judged", "none"), "--judged names no document"),
        (
            ("--pretrained", "x", "--corpus", beir, "--k", 5, "--export_name", "e"),
            "--k must be at most 4, the documents of the corpus. Received: 5",
        ),
        (("--pretrained", "x", "--corpus", "s" * 300, "--judged", "odd"), "--corpus 's"),
    ):
        done = recipe("build_index", *flags)
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "index").exists()
