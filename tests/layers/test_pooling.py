import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.errors import InputError
from tfllm.layers.pooling import check_pooling, pool

POOLINGS = ("mean", "first", "last", "max")
STATES = np.array([[[1.0, 6.0], [3.0, 2.0], [9.0, 9.0]]], np.float32)


@pytest.mark.parametrize(
    ("pooling", "right", "left"),
    [
        ("mean", [2.0, 4.0], [6.0, 5.5]),
        ("first", [1.0, 6.0], [3.0, 2.0]),
        ("last", [3.0, 2.0], [9.0, 9.0]),
        ("max", [3.0, 6.0], [9.0, 9.0]),
    ],
)
def test_by_hand(pooling, right, left):
    np.testing.assert_array_equal(pool(STATES, [[1, 1, 0]], pooling), [right])
    np.testing.assert_array_equal(pool(STATES, [[0, 1, 1]], pooling), [left])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_without_a_mask_all_tokens_are_real(pooling):
    np.testing.assert_array_equal(pool(STATES, None, pooling), pool(STATES, [[1, 1, 1]], pooling))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_row_without_a_real_token_is_zeros(pooling):
    np.testing.assert_array_equal(pool(STATES, [[0, 0, 0]], pooling), [[0.0, 0.0]])


@pytest.mark.parametrize("pooling", POOLINGS)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    more=st.integers(0, 4),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=25)
def test_padding_has_no_part(pooling, lengths, more, seed):
    rng = np.random.default_rng(seed)
    width = max(lengths) + more
    states = (rng.normal(size=(len(lengths), width, 3)) - 2.0).astype(np.float32)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int32)
    found = pool(states, mask, pooling)
    for row, length in enumerate(lengths):
        real = states[row, :length]
        wanted = {
            "mean": real.mean(axis=0),
            "first": real[0],
            "last": real[-1],
            "max": real.max(axis=0),
        }[pooling]
        np.testing.assert_allclose(found[row], wanted, atol=1e-6)


def test_half_precision_is_pooled_in_float32():
    states = tf.cast(tf.fill([1, 300, 1], 1.01), tf.bfloat16)
    found = pool(states, tf.ones([1, 300], tf.int32), "mean")
    assert found.dtype == tf.float32
    # A running sum in bfloat16 would stand still at 256.
    np.testing.assert_allclose(found, [[1.0078125]], rtol=1e-6)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(InputError, match="one of mean, first, last, max. Received: 'cls'"):
        check_pooling("cls")
