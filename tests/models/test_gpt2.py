"""The forward pass against transformers' own class."""

import numpy as np
import pytest
import tensorflow as tf
from transformers import GPT2Config, TFGPT2LMHeadModel

from tfllm.errors import InputError
from tfllm.models import CausalLM, gpt2

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def pair() -> tuple[CausalLM, TFGPT2LMHeadModel]:
    """Our model and transformers', with the same weights, whose logits reach ±100."""
    config = GPT2Config(vocab_size=97, n_positions=48, n_embd=32, n_layer=3, n_head=4)
    reference = TFGPT2LMHeadModel(config)
    reference.build_in_name_scope()
    model = CausalLM.from_config(config)
    ours = model.backbone.transformer.weights
    theirs = reference.transformer.weights
    for a, b in zip(ours, theirs, strict=True):
        assert a.name.split("/")[2:] == b.name.split("/")[2:]
        noise = RNG.standard_normal(b.shape).astype(np.float32)
        a.assign(b + 0.05 * noise)
        b.assign(a)
    ids = tf.constant(RNG.integers(0, 97, (4, 48)), tf.int32)
    factor = 100.0 / np.abs(reference(ids).logits).max()
    for norm in (model.backbone.transformer.ln_f, reference.transformer.ln_f):
        norm.gamma.assign(norm.gamma * factor)
        norm.beta.assign(norm.beta * factor)
    assert 99 < np.abs(reference(ids).logits).max() < 101
    return model, reference


def assert_close(ours: tf.Tensor, theirs: tf.Tensor, where: np.ndarray | None = None) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if where is not None:
        ours, theirs = ours[where], theirs[where]
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("length", [1, 2, 7, 48])
def test_logits_equal_transformers(pair, length):
    model, reference = pair
    ids = tf.constant(RNG.integers(0, 97, (3, length)), tf.int32)
    assert_close(model(ids), reference(ids).logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_equal_transformers_under_padding(pair, side):
    model, reference = pair
    ids = RNG.integers(0, 97, (3, 12)).astype(np.int32)
    mask = np.ones((3, 12), np.int32)
    for row, padding in enumerate((0, 3, 9)):
        span = slice(0, padding) if side == "left" else slice(12 - padding, 12)
        mask[row, span] = 0
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    features = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    theirs = reference(**features).logits
    assert_close(model(features), theirs, mask.astype(bool))
    del features["position_ids"]
    assert_close(model(features), theirs, mask.astype(bool))


def test_a_hole_in_the_mask_and_any_positions(pair):
    model, reference = pair
    ids = RNG.integers(0, 97, (2, 6)).astype(np.int32)
    mask = np.array([[1, 0, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]], np.int32)
    positions = np.array([[4, 0, 11, 2, 3, 40], [7, 7, 7, 1, 0, 9]], np.int32)
    features = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    assert_close(model(features), reference(**features).logits, mask.astype(bool))


def test_packed_documents_equal_each_alone(pair):
    model, _ = pair
    a, b, c = (RNG.integers(0, 97, (1, n)).astype(np.int32) for n in (5, 1, 9))
    segments = np.array([[1] * 5 + [2] + [3] * 9], np.int32)
    packed = model({"input_ids": np.concatenate([a, b, c], axis=1), "segment_ids": segments})
    alone = np.concatenate([model(part) for part in (a, b, c)], axis=1)
    assert_close(packed, alone)


def test_a_later_token_changes_no_earlier_logit(pair):
    model, _ = pair
    ids = RNG.integers(0, 97, (1, 10)).astype(np.int32)
    changed = ids.copy()
    changed[0, 6] = (changed[0, 6] + 1) % 97
    before, after = np.asarray(model(ids)), np.asarray(model(changed))
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert np.abs(before[:, 6:] - after[:, 6:]).max() > 1e-3


def test_attention_scaled_by_layer_equals_pytorch_definition():
    """`scale_attn_by_inverse_layer_idx`, which transformers' TF class passes over."""
    plain = GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    scaled = GPT2Config(**plain.to_dict() | {"scale_attn_by_inverse_layer_idx": True})
    tf.random.set_seed(1)
    a = CausalLM.from_config(plain)
    b = CausalLM.from_config(scaled)
    b.set_weights(a.get_weights())
    # Halving the second block's queries by hand is what the flag says.
    block = a.backbone.transformer.h[1].attn.c_attn
    half = np.ones((1, 24), np.float32)
    half[:, :8] = 0.5
    block.weight.assign(block.weight * half)
    block.bias.assign(block.bias * half)
    ids = tf.constant([[1, 2, 3, 4, 5]])
    assert_close(b(ids), a(ids))


def test_residual_projections_start_smaller():
    tf.random.set_seed(0)
    config = GPT2Config(vocab_size=11, n_positions=8, n_embd=64, n_layer=8, n_head=2)
    block = gpt2.create_backbone(config).transformer.h[3]
    expected = 0.02 / np.sqrt(16)
    # A truncated normal's deviation is 0.88 of its parameter.
    for layer in (block.attn.c_proj, block.mlp.c_proj):
        assert np.std(layer.weight) == pytest.approx(0.88 * expected, rel=0.1)
    assert np.std(block.mlp.c_fc.weight) == pytest.approx(0.88 * 0.02, rel=0.1)


def test_visible_keys_and_positions_by_hand():
    mask = tf.constant([[0, 0, 1, 1, 1]])
    assert gpt2.positions_of(gpt2.visible_keys(5, mask, None)).numpy().tolist() == [[0, 0, 0, 1, 2]]
    segments = tf.constant([[1, 1, 1, 2, 2]])
    visible = gpt2.visible_keys(5, None, segments)
    assert gpt2.positions_of(visible).numpy().tolist() == [[0, 1, 2, 0, 1]]
    assert visible.numpy()[0, 3].tolist() == [False, False, False, True, False]


def test_unsupported_configurations_are_refused():
    with pytest.raises(InputError, match="add_cross_attention"):
        gpt2.create_backbone(GPT2Config(add_cross_attention=True))
    with pytest.raises(InputError, match="n_embd=10, n_head=4"):
        gpt2.create_backbone(GPT2Config(n_embd=10, n_head=4))


def test_dropout_is_a_function_of_its_seed(tiny_model):
    ids = tf.constant([[1, 2, 3, 4]])

    def states(seed: list[int]) -> np.ndarray:
        return tiny_model.hidden_states(
            {"input_ids": ids}, training=True, dropout_seed=tf.constant(seed, tf.int64)
        ).numpy()

    np.testing.assert_array_equal(states([1, 2]), states([1, 2]))
    assert np.abs(states([1, 2]) - states([1, 3])).max() > 1e-3
    assert np.abs(states([1, 2]) - states([2, 2])).max() > 1e-3
