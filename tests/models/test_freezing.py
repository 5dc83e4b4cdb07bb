import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import BertConfig, GPT2Config, TFBertModel

from tfllm.errors import InputError
from tfllm.models.causal_lm import CausalLM
from tfllm.models.freezing import freeze_below


@pytest.fixture
def gpt2() -> CausalLM:
    config = GPT2Config(vocab_size=13, n_positions=6, n_embd=8, n_layer=3, n_head=2)
    return CausalLM.from_config(config)


@pytest.fixture
def bert() -> TFBertModel:
    config = BertConfig(
        vocab_size=13,
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=6,
    )
    backbone = TFBertModel(config)
    backbone.build_in_name_scope()
    return backbone


def places(model: keras.Model) -> list[str]:
    """The layers that trainable variables lie in, each once."""
    paths = [v.name.split("/") for v in model.trainable_variables]
    return list(dict.fromkeys(next(p for p in path if p in NAMES) for path in paths))


NAMES = ["wte", "wpe", "h_._0", "h_._1", "h_._2", "ln_f"] + [
    "embeddings",
    "layer_._0",
    "layer_._1",
    "layer_._2",
    "pooler",
]


def test_gpt2(gpt2):
    assert places(gpt2) == NAMES[:6]
    freeze_below(gpt2, 0)
    assert places(gpt2) == ["h_._0", "h_._1", "h_._2", "ln_f"]
    freeze_below(gpt2, 2)
    assert places(gpt2) == ["h_._2", "ln_f"]
    freeze_below(gpt2.backbone, 3)
    assert places(gpt2) == ["ln_f"]


def test_bert(bert):
    assert places(bert) == NAMES[6:]
    freeze_below(bert, 2)
    assert places(bert) == ["layer_._2", "pooler"]
    freeze_below(bert, 3)
    assert places(bert) == ["pooler"]


def test_training_leaves_frozen_layers_alone(gpt2):
    freeze_below(gpt2, 2)
    trained = {v.ref() for v in gpt2.trainable_variables}
    before = {v.ref(): v.numpy() for v in gpt2.weights}
    gpt2.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    ids = np.random.default_rng(0).integers(0, 13, [4, 7])
    gpt2.fit(tf.data.Dataset.from_tensors((ids[:, :-1], ids[:, 1:])), verbose=0)
    for variable in gpt2.weights:
        same = np.array_equal(variable, before[variable.ref()])
        assert same != (variable.ref() in trained), variable.name


def test_what_is_refused(gpt2, bert):
    for model in (gpt2, bert):
        with pytest.raises(InputError, match="can't freeze 4 layers: the backbone has 3. Give"):
            freeze_below(model, 4)
    with pytest.raises(InputError, match="can't freeze -1 layers"):
        freeze_below(gpt2, -1)
    with pytest.raises(ValueError, match="of the families bert, .*Sequential"):
        freeze_below(keras.Sequential([keras.layers.Dense(1)]), 1)
