import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import CONFIG_MAPPING, PretrainedConfig, TFPreTrainedModel

from tfllm.models.backbones import create_backbone, traits

TINY = json.loads((Path(__file__).parent / "tiny_configs.json").read_text())


@pytest.fixture(params=list(TINY))
def config(request: pytest.FixtureRequest) -> PretrainedConfig:
    """One of each family."""
    return CONFIG_MAPPING[request.param](**TINY[request.param])


@pytest.fixture
def bert_config() -> PretrainedConfig:
    return CONFIG_MAPPING["bert"](**TINY["bert"])


@pytest.fixture
def shake():
    """Random numbers for all weights: fresh ones have zeros and ones that hide mistakes."""

    def change(*models: keras.layers.Layer) -> None:
        rng = np.random.default_rng(3)
        for model in models:
            for variable in model.weights:
                variable.assign(variable + 0.2 * rng.standard_normal(variable.shape))

    return change


@pytest.fixture(scope="session")
def kept() -> dict[str, TFPreTrainedModel]:
    return {}


@pytest.fixture
def backbone(config, shake, kept) -> TFPreTrainedModel:
    """One of each family; tests share it, so they must leave it as it is."""
    kind = config.model_type
    if kind not in kept:
        kept[kind] = create_backbone(config)
        shake(kept[kind])
    return kept[kind]


@pytest.fixture
def fresh(config, shake) -> TFPreTrainedModel:
    """One of each family, to change."""
    found = create_backbone(config)
    shake(found)
    return found


@pytest.fixture
def batch():
    """Features of random rows, the later ones padded on the right."""

    def make(backbone: TFPreTrainedModel, length: int, rows: int = 3) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(length)
        mask = np.ones([rows, length], np.int32)
        for row in range(1, rows):
            mask[row, max(1, length - 3 * row) :] = 0
        # Padding that a RoBERTa recognizes, which counts positions by it.
        padding = backbone.config.pad_token_id or 0
        ids = np.where(mask == 1, rng.integers(6, 50, [rows, length]), padding)
        features = {"input_ids": ids.astype(np.int32), "attention_mask": mask}
        if traits(backbone).token_types:
            features["token_type_ids"] = rng.integers(0, 2, [rows, length]).astype(np.int32)
        return features

    return make


@pytest.fixture
def close():
    def assert_close(ours: tf.Tensor, theirs: tf.Tensor, where: np.ndarray | None = None) -> None:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if where is not None:
            ours, theirs = ours[where.astype(bool)], theirs[where.astype(bool)]
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()

    return assert_close
