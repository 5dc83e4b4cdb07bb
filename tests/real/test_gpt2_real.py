"""A really trained GPT-2 through the whole path."""

import numpy as np
import pytest
import tensorflow as tf

from tfllm.models import CausalLM


@pytest.fixture(scope="module")
def adder(data) -> CausalLM:
    return CausalLM.from_pretrained(data / "weights" / "gpt2-nano-adder")


def every_pair() -> tuple[np.ndarray, np.ndarray]:
    """All prompts `a1 a0 b1 b0`, and the sums' three digits, the last first."""
    a, b = (grid.ravel() for grid in np.meshgrid(range(100), range(100), indexing="ij"))
    prompts = np.stack([a // 10, a % 10, b // 10, b % 10], axis=1).astype(np.int32)
    total = a + b
    return prompts, np.stack([total % 10, total // 10 % 10, total // 100], axis=1)


def test_all_ten_thousand_sums_are_right(adder):
    prompts, sums = every_pair()

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.int32)])
    def add(ids: tf.Tensor) -> tf.Tensor:
        return adder.generate(ids, max_new_tokens=3).to_tensor()

    found = np.concatenate([add(prompts[i : i + 1000]) for i in range(0, 10_000, 1000)])
    assert (found == sums).all(axis=1).sum() == 10_000


def test_mixed_lengths_add_right_too(adder):
    """Prompts that already hold the first digits of the sum, left-padded beside others."""
    prompts, sums = every_pair()
    rng = np.random.default_rng(0)
    rows, given = rng.integers(0, 10_000, 64), rng.integers(0, 3, 64)
    ids = [[*prompts[r], *sums[r][:n]] for r, n in zip(rows, given, strict=True)]
    found = adder.generate(
        tf.ragged.constant(ids, dtype=tf.int32), max_new_tokens=tf.constant(3 - given, tf.int32)
    )
    assert found.to_list() == [list(sums[r][n:]) for r, n in zip(rows, given, strict=True)]


def test_logits_equal_transformers(adder, data):
    """Transformers' TF class always ties its head, so its states meet the matrix by hand."""
    from transformers import GPT2Config, TFGPT2LMHeadModel

    config = GPT2Config.from_pretrained(data / "weights" / "gpt2-nano-adder")
    reference = TFGPT2LMHeadModel(config)
    reference.build_in_name_scope()
    for theirs, ours in zip(
        reference.transformer.weights, adder.backbone.transformer.weights, strict=True
    ):
        theirs.assign(ours)
    prompts, _ = every_pair()
    hidden = reference.transformer(prompts[::97]).last_hidden_state
    wanted = tf.matmul(hidden, adder.lm_head, transpose_b=True).numpy()
    assert np.abs(adder(prompts[::97]) - wanted).max() <= 1e-5 * np.abs(wanted).max()
