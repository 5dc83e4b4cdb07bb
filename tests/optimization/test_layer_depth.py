import pytest
import tensorflow as tf
from transformers import BertConfig, GPT2Config, TFBertModel, TFGPT2Model

from tfllm.errors import InputError
from tfllm.optimization import depth_by_name, layer_multipliers


@pytest.fixture(scope="module")
def gpt2() -> TFGPT2Model:
    config = GPT2Config(vocab_size=13, n_positions=6, n_embd=8, n_layer=3, n_head=2)
    backbone = TFGPT2Model(config)
    backbone.build_in_name_scope()
    return backbone


@pytest.fixture(scope="module")
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


def by_layer(layers: list) -> dict:
    """Variable → number of the layer, from the layers themselves."""
    return {v.ref(): i for i, layer in enumerate(layers) for v in layer.trainable_variables}


def test_depths_of_gpt2(gpt2):
    main = gpt2.transformer
    wanted = by_layer([main.wte, *main.h]) | by_layer([main.wpe])
    for variable in gpt2.trainable_variables:
        assert depth_by_name(variable) == wanted.get(variable.ref()), variable.name
    above = [v.name for v in gpt2.trainable_variables if depth_by_name(v) is None]
    assert [name.split("/", 1)[1] for name in above] == [
        "transformer/ln_f/gamma:0",
        "transformer/ln_f/beta:0",
    ]


def test_depths_of_bert(bert):
    wanted = by_layer([bert.bert.embeddings, *bert.bert.encoder.layer])
    for variable in bert.trainable_variables:
        assert depth_by_name(variable) == wanted.get(variable.ref()), variable.name
    above = [v.name for v in bert.trainable_variables if depth_by_name(v) is None]
    assert [name.split("/", 1)[1] for name in above] == [
        "bert/pooler/dense/kernel:0",
        "bert/pooler/dense/bias:0",
    ]


def test_multipliers_by_hand(bert):
    found = layer_multipliers(bert.trainable_variables, num_layers=3, decay=0.5)
    names = [v.name for v in bert.trainable_variables]
    of = dict(zip(names, found, strict=True))
    start = names[0].split("embeddings/")[0]  # Keras numbers the models of a process
    assert of[f"{start}embeddings/LayerNorm/gamma:0"] == 0.0625
    assert of[f"{start}encoder/layer_._0/output/dense/bias:0"] == 0.125
    assert of[f"{start}encoder/layer_._2/output/dense/bias:0"] == 0.5
    assert of[f"{start}pooler/dense/kernel:0"] == 1.0
    assert set(layer_multipliers(bert.trainable_variables, num_layers=3, decay=1.0)) == {1.0}


def test_names_of_a_head_do_not_mislead():
    for name in ("head/label_embedding/embeddings", "h_._x/w", "lm_head", "ah_._1/w"):
        assert depth_by_name(tf.Variable(0.0, name=name)) is None


def test_a_reader_of_ones_own():
    found = [tf.Variable(0.0, name=name) for name in ("a", "b", "c")]
    depths = {"a:0": 0, "b:0": 1, "c:0": None}
    multipliers = layer_multipliers(
        found, num_layers=1, decay=0.1, depth_of=lambda v: depths[v.name]
    )
    assert multipliers == pytest.approx([0.01, 0.1, 1.0])


def test_what_is_refused(gpt2):
    for decay in (0.0, 1.1, float("nan")):
        with pytest.raises(InputError, match="--layer_decay must be above 0 and at most 1"):
            layer_multipliers(gpt2.trainable_variables, num_layers=3, decay=decay)
    with pytest.raises(ValueError, match="has depth 3, but there are 2 layers"):
        layer_multipliers(gpt2.trainable_variables, num_layers=2, decay=0.5)
    with pytest.raises(ValueError, match="none of the variables lies in .* Received: dense/w:0"):
        layer_multipliers([tf.Variable(0.0, name="dense/w")], num_layers=2, decay=0.5)
