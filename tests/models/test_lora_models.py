"""Adapters on whole models: what they wrap, freeze, compute, and leave behind."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import (
    BertConfig,
    RobertaConfig,
    TFBertForSequenceClassification,
    TFBertModel,
    TFRobertaModel,
)

from tfllm.errors import InputError
from tfllm.layers.lora import LoRA
from tfllm.models import CausalLM
from tfllm.models.lora import adapters_of, apply_lora, merge_lora, trained_heads
from tfllm.models.projections import matching, projections
from tfllm.models.trainable import TrainableShare, trainable_share

IDS = tf.constant([[1, 2, 3, 4], [5, 6, 7, 8]])
BERT = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}


def bert() -> TFBertModel:
    model = TFBertModel(BertConfig(**BERT))
    model.build_in_name_scope()
    return model


def roberta() -> TFRobertaModel:
    model = TFRobertaModel(RobertaConfig(**BERT))
    model.build_in_name_scope()
    return model


def output(model: keras.Model) -> np.ndarray:
    found = model(IDS)
    return (found if isinstance(model, CausalLM) else found.last_hidden_state).numpy()


def train_by_hand(model: keras.Model) -> None:
    """As if trained: every B gets other numbers than zero."""
    for i, (_, layer) in enumerate(adapters_of(model)):
        layer.lora_b.assign(tf.random.stateless_normal(layer.lora_b.shape, [i, 1]))


@pytest.fixture(params=["gpt2", "bert", "roberta"])
def model(request: pytest.FixtureRequest) -> keras.Model:
    if request.param == "gpt2":
        return request.getfixturevalue("tiny_model")
    return {"bert": bert, "roberta": roberta}[request.param]()


def test_wrapped_trained_merged(model):
    names, start, weights = [w.name for w in model.weights], output(model), model.get_weights()
    share = apply_lora(model, rank=3, alpha=6, targets=[p.name for p in projections(model)])
    np.testing.assert_array_equal(output(model), start)
    trained = [w.name.rpartition("/")[2] for w in model.trainable_weights]
    assert trained == ["lora_a:0", "lora_b:0"] * len(projections(model))
    assert share == trainable_share(model)
    assert len({w.name for w in model.weights}) == len(model.weights)

    train_by_hand(model)
    adapted = output(model)
    assert np.abs(adapted - start).max() > 0.1
    for name, before in zip(names, weights, strict=True):
        after = next(w for w in model.weights if w.name == name)
        np.testing.assert_array_equal(after, before)

    assert merge_lora(model) == len(projections(model))
    assert np.abs(output(model) - adapted).max() <= 1e-5 * max(1.0, np.abs(adapted).max())
    # Plain again, and in the same order: `set_weights` goes by it.
    assert [w.name for w in model.weights] == names
    assert not any(isinstance(module, LoRA) for module in model.submodules)
    assert len(model.trainable_weights) == len(names)


def test_the_order_of_weights_of_like_shape_survives():
    model, fresh = bert(), bert()
    apply_lora(model, rank=1, alpha=1, targets=["query"])
    merge_lora(model)
    fresh.set_weights(model.get_weights())
    np.testing.assert_array_equal(output(fresh), output(model))


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("c_attn", ["attn.c_attn"]),
        (["c_proj"], ["attn.c_proj", "mlp.c_proj"]),
        (["attn.c_proj"], ["attn.c_proj"]),
        (["mlp.c_proj", "c_fc"], ["mlp.c_fc", "mlp.c_proj"]),
    ],
)
def test_targets_of_gpt2(tiny_model, targets, names):
    found = matching(tiny_model, targets)
    assert [p.path for p in found] == [f"h.{i}.{name}" for i in range(2) for name in names]
    main = tiny_model.backbone.transformer
    for projection in found:
        block, part = main.h[int(projection.path[2])], projection.name.split(".")
        assert projection.layer is getattr(getattr(block, part[0]), part[1])


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("query", ["attention.self.query"]),
        ("attention.output.dense", ["attention.output.dense"]),
        ("output.dense", ["output.dense"]),
        ("dense", ["attention.output.dense", "intermediate.dense", "output.dense"]),
    ],
)
def test_targets_of_bert(target, names):
    found = matching(bert(), [target])
    assert [p.path for p in found[: len(names)]] == [f"encoder.layer.0.{name}" for name in names]
    assert len(found) == 2 * len(names)


def test_berts_projections_are_what_they_are_called():
    model = bert()
    block = model.bert.encoder.layer[1]
    assert [p.layer for p in projections(model)[6:]] == [
        block.attention.self_attention.query,
        block.attention.self_attention.key,
        block.attention.self_attention.value,
        block.attention.dense_output.dense,
        block.intermediate.dense,
        block.bert_output.dense,
    ]


def test_share_by_hand(tiny_model):
    before = trainable_share(tiny_model)
    assert before.trainable == before.total == 23 * 8 + 24 * 8 + 2 * (4 * 8 + 3 * 8 * 8 + 24 + 8 * 8 + 8 + 8 * 32 + 32 + 32 * 8 + 8) + 16  # fmt: skip # noqa: E501
    share = apply_lora(tiny_model, rank=2, alpha=2, targets=["c_attn"])
    assert share == (2 * 2 * (8 + 24), before.total + 128)
    assert share.share == 128 / (before.total + 128)
    line = str(TrainableShare(294_912, 124_734_720))
    assert line == "294,912 of 124,734,720 parameters train (0.236%)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "integer above 0. Received: rank=0"),
        ({"rank": 1.5}, "Received: rank=1.5"),
        ({"rank": True}, "Received: rank=True"),
        ({"alpha": 0}, "above 0. Received: alpha=0"),
        ({"alpha": float("nan")}, "Received: alpha=nan"),
        ({"dropout": 1.0}, "below 1. Received: dropout=1.0"),
        ({"dropout": -0.1}, "Received: dropout=-0.1"),
        (
            {"targets": ["c_attn", "query"]},
            "'query' matches no projection of this GPT-2. It has: attn.c_attn, attn.c_proj, "
            "mlp.c_fc, mlp.c_proj",
        ),
        ({"targets": ["proj"]}, "'proj' matches no projection"),
        ({"targets": []}, "need a target. Give some of: attn.c_attn"),
        ({"heads": ["classifier"]}, "no head 'classifier' to train .* It has: none"),
    ],
)
def test_bad_arguments_leave_the_model_as_it_was(tiny_model, change, message):
    with pytest.raises(InputError, match=message):
        apply_lora(tiny_model, **{"rank": 2, "alpha": 4} | change)
    assert adapters_of(tiny_model) == []
    assert len(tiny_model.trainable_weights) == len(tiny_model.weights)


def test_families_and_states_that_are_refused(tiny_model):
    headed = TFBertForSequenceClassification(BertConfig(**BERT))
    headed.build_in_name_scope()
    with pytest.raises(InputError, match="adapters of BERT must be 0: .* Received: dropout=0.1"):
        apply_lora(headed, rank=2, alpha=4, targets=["query"], dropout=0.1)
    with pytest.raises(InputError, match="BERT, RoBERTa, .* XLNet. Received: a Sequential"):
        apply_lora(keras.Sequential(), rank=2, alpha=4)
    with pytest.raises(InputError, match="no adapters to merge"):
        merge_lora(tiny_model)
    apply_lora(tiny_model, rank=2, alpha=4, targets=["c_attn"])
    with pytest.raises(InputError, match="has adapters already"):
        apply_lora(tiny_model, rank=2, alpha=4, targets=["c_attn"])
    assert len(adapters_of(tiny_model)) == 2


def test_a_head_trains_only_where_it_is_named(tiny_config):
    tiny_config.tie_word_embeddings = False
    frozen, kept = CausalLM.from_config(tiny_config), CausalLM.from_config(tiny_config)
    order = [w.name for w in kept.weights]
    apply_lora(frozen, rank=2, alpha=4, targets=["c_attn"])
    apply_lora(kept, rank=2, alpha=4, targets=["c_attn"], heads=["lm_head"])
    assert len(frozen.trainable_weights) == 4 and trained_heads(frozen) == {}
    assert len(kept.trainable_weights) == 5 and trained_heads(kept) == {"lm_head": kept.lm_head}
    for model in (frozen, kept):
        merge_lora(model)
        assert [w.name for w in model.weights] == order
        assert len(model.trainable_weights) == len(order)


def test_a_head_that_is_a_layer():
    model = TFBertForSequenceClassification(BertConfig(**BERT, num_labels=3))
    model.build_in_name_scope()
    apply_lora(model, rank=2, alpha=4, targets=["value"], heads=["classifier"])
    assert [w.shape.as_list() for w in model.trainable_weights[-2:]] == [[8, 3], [3]]
    assert len(model.trainable_weights) == 6
    assert list(trained_heads(model)) == ["classifier"]


def test_a_backbone_alone_leaves_the_head_to_its_owner(tiny_config):
    tiny_config.tie_word_embeddings = False
    model = CausalLM.from_config(tiny_config)
    apply_lora(model.backbone, rank=2, alpha=4, targets=["c_attn"])
    assert model.lm_head is model.trainable_weights[-1] and len(model.trainable_weights) == 5


def test_keras_graphs_from_before_are_not_used_after(tiny_model):
    tiny_model.compile("sgd")

    def loss() -> float:
        return tiny_model.evaluate(IDS, IDS, verbose=0)

    plain = loss()
    apply_lora(tiny_model, rank=2, alpha=4, targets=["c_attn", "c_proj", "c_fc"])
    train_by_hand(tiny_model)
    adapted = loss()
    assert abs(adapted - plain) > 1e-3
    merge_lora(tiny_model)
    assert loss() == pytest.approx(adapted, rel=1e-5)


def test_decoding_and_scoring_pass_through_the_adapters(tiny_model):
    everything = ["c_attn", "c_proj", "c_fc"]
    plain = tiny_model.generate(IDS, max_new_tokens=12).to_list()
    apply_lora(tiny_model, rank=2, alpha=4, targets=everything)
    train_by_hand(tiny_model)
    adapted = tiny_model.generate(IDS, max_new_tokens=12).to_list()
    assert adapted != plain
    # The cache gives what the whole rows give.
    rows = np.concatenate([IDS, adapted], axis=1)
    logits = tiny_model(rows).numpy()
    assert logits[:, 3:-1].argmax(axis=-1).tolist() == adapted
    merge_lora(tiny_model)
    assert tiny_model.generate(IDS, max_new_tokens=12).to_list() == adapted


def test_what_is_saved_with_adapters_on_is_merged(tiny_model, tmp_path):
    apply_lora(tiny_model, rank=2, alpha=4, targets=["c_attn", "mlp.c_proj"])
    train_by_hand(tiny_model)
    adapted = output(tiny_model)
    tiny_model.save_pretrained(tmp_path / "m")
    copy = tiny_model.with_vocabulary([[i] for i in range(23)])
    for other in (CausalLM.from_pretrained(tmp_path / "m"), copy):
        assert adapters_of(other) == []
        np.testing.assert_allclose(output(other), adapted, atol=1e-5)
    # Saving changed nothing: the adapters are still there.
    np.testing.assert_array_equal(output(tiny_model), adapted)


def test_dropout_in_adapters_has_masks_of_its_own(tiny_config):
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        setattr(tiny_config, name, 0.0)
    model = CausalLM.from_config(tiny_config)
    everything = ["c_attn", "c_proj", "c_fc"]
    apply_lora(model, rank=2, alpha=4, targets=everything, dropout=0.5)
    train_by_hand(model)

    def states(*seed: int) -> np.ndarray:
        found = model.hidden_states(
            {"input_ids": IDS}, training=True, dropout_seed=tf.constant(seed, tf.int64)
        )
        return found.numpy()

    np.testing.assert_array_equal(states(1, 2), states(1, 2))
    assert np.abs(states(1, 2) - states(1, 3)).max() > 1e-3
    seeds: list[tuple[int, ...]] = []
    originals = {}
    for _, layer in adapters_of(model):
        originals[id(layer)] = call = layer.call
        layer.call = lambda inputs, dropout_seed=None, call=call: (
            seeds.append(tuple(dropout_seed.numpy())),
            call(inputs, dropout_seed),
        )[1]
    states(1, 2)
    assert len(set(seeds)) == len(originals) == 8


def test_transformers_saves_and_loads_what_is_merged(tmp_path):
    model = bert()
    apply_lora(model, rank=2, alpha=4, targets=["query", "output.dense"])
    train_by_hand(model)
    adapted = output(model)
    merge_lora(model)
    model.save_pretrained(tmp_path)
    again = TFBertModel.from_pretrained(tmp_path)
    np.testing.assert_array_equal(output(again), output(model))
    np.testing.assert_allclose(output(again), adapted, atol=1e-5)
