"""Adapters, frozen layers and rates by depth on every family."""

import numpy as np
import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.backbones import create_backbone, hidden_states, pretrained_tensors
from tfllm.models.freezing import freeze_below
from tfllm.models.lora import adapters_of, apply_lora, merge_lora
from tfllm.optimization import layer_multipliers


def put_on(backbone, **settings) -> None:
    """Adapters on all projections, as if trained."""
    apply_lora(backbone, rank=2, alpha=4, targets=None, **settings)
    for i, (_, layer) in enumerate(adapters_of(backbone)):
        layer.lora_b.assign(tf.random.stateless_normal(layer.lora_b.shape, [i, 1]))


@pytest.fixture
def adaptable(fresh):
    if fresh.config.model_type == "albert":
        pytest.skip("ALBERT is refused, which has a test of its own")
    return fresh


def test_adapters_are_computed_saved_and_merged(adaptable, batch, close):
    features, plain = batch(adaptable, 7), None
    plain = hidden_states(adaptable, features).numpy()
    put_on(adaptable)
    adapted = hidden_states(adaptable, features)
    assert np.abs(adapted - plain).max() > 0.1
    saved = pretrained_tensors(adaptable, {})
    merge_lora(adaptable)
    close(hidden_states(adaptable, features), adapted)
    merged = pretrained_tensors(adaptable, {})
    assert list(saved) == list(merged)
    for name, array in saved.items():
        np.testing.assert_array_equal(array, merged[name], err_msg=name)


def test_dropout_of_adapters_is_a_function_of_the_seed(adaptable, batch):
    for name, value in adaptable.config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(adaptable.config, name, 0.0)
    put_on(adaptable, dropout=0.5)
    features = batch(adaptable, 7)

    def states(seed: int) -> np.ndarray:
        seeds = tf.constant([seed, 1], tf.int64)
        return hidden_states(adaptable, features, training=True, dropout_seed=seeds).numpy()

    np.testing.assert_array_equal(states(1), states(1))
    assert np.abs(states(1) - states(2)).max() > 1e-3


def test_albert_takes_no_adapters():
    from transformers import AlbertConfig

    config = AlbertConfig(
        vocab_size=9, embedding_size=4, hidden_size=8, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=8,
    )  # fmt: skip
    backbone = create_backbone(config)
    with pytest.raises(InputError, match="TFAlbertModel. Its blocks share their matrices"):
        apply_lora(backbone, rank=2, alpha=4, targets=None)
    with pytest.raises(InputError, match="share their matrices, .* Leave --layer_decay out"):
        layer_multipliers(backbone.trainable_variables, num_layers=2, decay=0.5)
    freeze_below(backbone, 0)
    assert not any("embedding" in v.name for v in backbone.trainable_variables)
    with pytest.raises(InputError, match="can't freeze 1 layers: the backbone has 0"):
        freeze_below(backbone, 1)


def test_depth_and_freezing_agree(adaptable):
    """What freezing calls embeddings and blocks has the rates of depth 0, 1 and 2."""
    variables = adaptable.trainable_variables
    rates = dict(
        zip(
            [v.name for v in variables],
            layer_multipliers(variables, num_layers=2, decay=0.5),
            strict=True,
        )
    )
    assert set(rates.values()) >= {0.125, 0.25, 0.5}
    freeze_below(adaptable, 0)
    left = {v.name for v in adaptable.trainable_variables}
    assert {rates[name] for name in rates if name not in left} == {0.125}
    assert not any(rates[name] == 0.125 for name in left)
    freeze_below(adaptable, 1)
    left = {v.name for v in adaptable.trainable_variables}
    assert {rates[name] for name in left} <= {0.5, 1.0}
