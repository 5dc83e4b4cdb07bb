"""Adapters saved alone and put back."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import tf_keras as keras
from transformers import BertConfig, TFBertForSequenceClassification, TFBertModel

from tfllm.errors import InputError
from tfllm.models import CausalLM
from tfllm.models.adapter_files import load_adapters, save_adapters
from tfllm.models.lora import adapters_of, apply_lora

IDS = tf.constant([[1, 2, 3, 4], [5, 6, 7, 8]])
BERT = BertConfig(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=12,
    num_labels=3,
)


def train_by_hand(model: keras.Model) -> None:
    """As if trained: what trains gets other numbers."""
    for i, variable in enumerate(model.trainable_weights):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [i, 1]))


def twin(model: CausalLM) -> CausalLM:
    """A plain model with the same weights."""
    other = CausalLM.from_config(model.config)
    other.set_weights(model.get_weights())
    return other


@pytest.fixture
def untied(tiny_config) -> CausalLM:
    tiny_config.tie_word_embeddings = False
    return CausalLM.from_config(tiny_config)


@pytest.mark.parametrize("heads", [[], ["lm_head"]])
def test_there_and_back(untied, tmp_path, heads):
    plain, same = twin(untied), twin(untied)
    apply_lora(
        untied, rank=3, alpha=6.5, targets=["c_attn", "mlp.c_proj"], heads=heads, dropout=0.2
    )
    train_by_hand(untied)
    save_adapters(untied, tmp_path / "a", base_name="gpt2")
    share = load_adapters(plain, tmp_path / "a")
    np.testing.assert_array_equal(plain(IDS), untied(IDS))
    assert [w.name for w in plain.trainable_weights] == [w.name for w in untied.trainable_weights]
    assert adapters_of(plain)[0].layer.dropout == 0.2
    assert share.trainable == sum(w.numpy().size for w in untied.trainable_weights)
    # Into the same adapters, as when a run goes on from saved ones.
    apply_lora(same, rank=3, alpha=6.5, targets=["c_attn", "mlp.c_proj"], seed=9, heads=heads)
    load_adapters(same, tmp_path / "a")
    np.testing.assert_array_equal(same(IDS), untied(IDS))
    assert sum(path.stat().st_size for path in (tmp_path / "a").iterdir()) < 6000


def test_names_and_layout_are_pefts(untied, tmp_path):
    apply_lora(untied, rank=3, alpha=6, targets=["c_attn"], heads=["lm_head"])
    train_by_hand(untied)
    save_adapters(untied, tmp_path / "a", base_name="some/base")
    tensors = safetensors.numpy.load_file(tmp_path / "a" / "adapter_model.safetensors")
    at = "base_model.model.transformer.h"
    assert {name: array.shape for name, array in tensors.items()} == {
        f"{at}.0.attn.c_attn.lora_A.weight": (3, 8),
        f"{at}.0.attn.c_attn.lora_B.weight": (24, 3),
        f"{at}.1.attn.c_attn.lora_A.weight": (3, 8),
        f"{at}.1.attn.c_attn.lora_B.weight": (24, 3),
        "base_model.model.lm_head.weight": (23, 8),
    }
    layer = adapters_of(untied)[1].layer
    np.testing.assert_array_equal(tensors[f"{at}.1.attn.c_attn.lora_A.weight"], layer.lora_a[:].numpy().T)  # fmt: skip # noqa: E501
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text()) == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "some/base",
        "inference_mode": True,
        "r": 3,
        "lora_alpha": 6,
        "lora_dropout": 0.0,
        "target_modules": ["h.0.attn.c_attn", "h.1.attn.c_attn"],
        "fan_in_fan_out": True,
        "bias": "none",
        "modules_to_save": ["lm_head"],
    }


def test_bert_with_and_without_a_head(tmp_path):
    headed = TFBertForSequenceClassification(BERT)
    bare = TFBertModel(BERT)
    for model, heads in ((headed, ["classifier"]), (bare, [])):
        model.build_in_name_scope()
        apply_lora(model, rank=2, alpha=2, targets=["value"], heads=heads)
        train_by_hand(model)
        save_adapters(model, tmp_path / type(model).__name__)
    names = [
        set(safetensors.numpy.load_file(tmp_path / name / "adapter_model.safetensors"))
        for name in ("TFBertForSequenceClassification", "TFBertModel")
    ]
    path = "encoder.layer.1.attention.self.value.lora_B.weight"
    assert f"base_model.model.bert.{path}" in names[0] and len(names[0]) == 6
    assert "base_model.model.classifier.kernel" in names[0]
    assert f"base_model.model.{path}" in names[1] and len(names[1]) == 4

    plain = TFBertForSequenceClassification(BERT)
    plain.build_in_name_scope()
    adapted = headed(IDS).logits.numpy()
    by_name = {w.name.partition("/")[2]: w for w in headed.weights}
    for weight in plain.weights:
        weight.assign(by_name[weight.name.partition("/")[2]])
    plain.classifier.kernel.assign(tf.zeros([8, 3]))
    load_adapters(plain, tmp_path / "TFBertForSequenceClassification")
    np.testing.assert_array_equal(plain(IDS).logits, adapted)


def test_a_folder_that_exists_is_kept(untied, tmp_path):
    with pytest.raises(InputError, match="no adapters to save"):
        save_adapters(untied, tmp_path / "a")
    apply_lora(untied, rank=1, alpha=1, targets=["c_attn"])
    save_adapters(untied, tmp_path / "a")
    with pytest.raises(InputError, match="exists already"):
        save_adapters(untied, tmp_path / "a")
    save_adapters(untied, tmp_path / "a", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["a"]


@pytest.fixture
def saved(untied, tmp_path) -> Path:
    model = twin(untied)
    apply_lora(model, rank=3, alpha=6, targets=["c_attn"])
    save_adapters(model, tmp_path / "a")
    return tmp_path / "a"


def change_config(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def change_tensors(folder: Path, **tensors: Any) -> None:
    """`A` and `B` belong to the first block; None takes away."""
    path = folder / "adapter_model.safetensors"
    found = safetensors.numpy.load_file(path)
    for name, array in tensors.items():
        name = f"base_model.model.transformer.h.0.attn.c_attn.lora_{name}.weight"
        found.pop(name)
        if array is not None:
            found[name] = array
    safetensors.numpy.save_file(found, path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "its peft_type must be 'LORA'"),
        ({"r": None}, "r must be a number. Received: None"),
        ({"lora_alpha": "8"}, "lora_alpha must be a number. Received: '8'"),
        ({"lora_alpha": -1}, "alpha=-1"),
        ({"use_dora": True}, "use_dora=True makes adapters of a kind"),
        ({"use_rslora": True}, "use_rslora=True makes adapters of a kind"),
        ({"bias": "all"}, "bias='all' makes"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' makes"),
        ({"rank_pattern": {"c_attn": 4}}, "rank_pattern={'c_attn': 4} makes"),
        ({"a_setting_of_tomorrow": 1}, "a_setting_of_tomorrow=1 makes"),
        ({"r": 2}, r"must have the shape \[2, 8\] to fit this GPT-2. Received: \[3, 8\]"),
    ],
)
def test_settings_that_mean_something_else_are_refused(untied, saved, settings, message):
    change_config(saved, **settings)
    with pytest.raises(InputError, match=message):
        load_adapters(untied, saved)
    assert adapters_of(untied) == [] and len(untied.trainable_weights) == len(untied.weights)


def test_settings_of_pefts_that_mean_nothing_here_are_read_over(untied, saved):
    change_config(saved, use_dora=False, rank_pattern={}, init_lora_weights=True, peft_version="1")
    load_adapters(untied, saved)
    assert len(adapters_of(untied)) == 2


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"A": np.zeros([3, 9], np.float32)}, r"c_attn.lora_A .* shape \[3, 8\] .* \[3, 9\]"),
        ({"B": np.zeros([3, 24], np.float32)}, r"c_attn.lora_B .* shape \[24, 3\] .* \[3, 24\]"),
        ({"B": None}, r"c_attn.lora_B .* shape \[24, 3\] .* Received: nothing"),
    ],
)
def test_adapters_of_another_base_are_refused(untied, saved, tensors, message):
    change_tensors(saved, **tensors)
    with pytest.raises(InputError, match=message):
        load_adapters(untied, saved)
    assert adapters_of(untied) == []


def test_adapters_of_a_deeper_base_another_family_and_another_head(tiny_config, saved, tmp_path):
    tiny_config.n_layer = 1
    with pytest.raises(InputError, match="no such projection: it ends with h.0.mlp.c_proj"):
        load_adapters(CausalLM.from_config(tiny_config), saved)
    bert = TFBertModel(BERT)
    bert.build_in_name_scope()
    with pytest.raises(InputError, match="holds no adapters of a BERT"):
        load_adapters(bert, saved)
    tiny_config.tie_word_embeddings = False
    model = CausalLM.from_config(tiny_config)
    apply_lora(model, rank=3, alpha=6, targets=["c_attn"], heads=["lm_head"])
    save_adapters(model, tmp_path / "b")
    tiny_config.vocab_size = 29
    with pytest.raises(InputError, match=r"\[23, 8\]}, and this model's has .*\[29, 8\]"):
        load_adapters(CausalLM.from_config(tiny_config), tmp_path / "b")
    tiny_config.tie_word_embeddings = True
    with pytest.raises(InputError, match="no head 'lm_head'"):
        load_adapters(CausalLM.from_config(tiny_config), tmp_path / "b")


def test_adapters_that_the_model_has_must_be_the_same(untied, saved):
    apply_lora(untied, rank=3, alpha=7, targets=["c_attn"])
    with pytest.raises(InputError, match="2 adapters of rank 3 and alpha 7, and .* alpha 6"):
        load_adapters(untied, saved)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_and_damaged_files(untied, saved, name):
    (saved / name).write_bytes(b"{")
    with pytest.raises(InputError, match=f"{name} can't be read as"):
        load_adapters(untied, saved)
    (saved / name).unlink()
    with pytest.raises(InputError, match="no folder of adapters: it must hold"):
        load_adapters(untied, saved)
