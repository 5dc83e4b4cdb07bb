import numpy as np
import pytest
import tensorflow as tf

from tfllm import losses


def plain(hidden, table, targets, weights):
    logits = tf.matmul(hidden, table, transpose_b=True)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.reduce_sum(each * weights)


def example(rows: int, words: int = 17, dim: int = 5):
    rng = np.random.default_rng(rows)
    hidden = tf.constant(rng.standard_normal((rows, dim)), tf.float32)
    table = tf.constant(rng.standard_normal((words, dim)), tf.float32)
    targets = tf.constant(rng.integers(0, words, rows), tf.int32)
    weights = tf.constant(rng.choice([0.0, 1.0, 0.5], rows), tf.float32)
    return hidden, table, targets, weights


# Chunks hold 128 rows here: one, exactly one, one more than one, and several.
@pytest.mark.parametrize("rows", [1, 128, 129, 400])
@pytest.mark.parametrize("known", [True, False])
def test_loss_and_gradients_equal_the_plain_ones(monkeypatch, rows, known):
    monkeypatch.setattr(losses, "_CHUNK_ELEMENTS", 1)
    hidden, table, targets, weights = example(rows)

    @tf.function(reduce_retracing=False)
    def chunked(hidden, table, targets, weights):
        with tf.GradientTape() as tape:
            tape.watch([hidden, table])
            loss = losses.linear_cross_entropy(hidden, table, targets, weights) * 3.0
        return loss, *tape.gradient(loss, [hidden, table])

    if not known:
        chunked = tf.function(
            chunked.python_function,
            input_signature=[
                tf.TensorSpec([None, 5]),
                tf.TensorSpec([17, 5]),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None]),
            ],
        )
    with tf.GradientTape() as tape:
        tape.watch([hidden, table])
        wanted = plain(hidden, table, targets, weights) * 3.0
    loss, by_hidden, by_table = chunked(hidden, table, targets, weights)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    wanted_by_hidden, wanted_by_table = tape.gradient(wanted, [hidden, table])
    np.testing.assert_allclose(by_hidden, wanted_by_hidden, atol=1e-5)
    np.testing.assert_allclose(by_table, wanted_by_table, atol=1e-4)
    forward = losses.linear_cross_entropy(hidden, table, targets, weights, differentiable=False)
    np.testing.assert_allclose(forward * 3.0, wanted, rtol=1e-5)


def test_no_rows():
    hidden, table, targets, weights = example(3)
    with tf.GradientTape() as tape:
        tape.watch(table)
        loss = losses.linear_cross_entropy(hidden[:0], table, targets[:0], weights[:0])
    assert float(loss) == 0.0
    assert not np.any(tape.gradient(loss, table))


def test_half_precision_comes_back_as_half():
    hidden, table, targets, weights = example(4)
    hidden = tf.cast(hidden, tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        loss = losses.linear_cross_entropy(hidden, table, targets, weights)
    assert loss.dtype == tf.float32
    assert tape.gradient(loss, hidden).dtype == tf.bfloat16


@pytest.mark.parametrize("scale", [1.0, 40.0, 400.0])
def test_targets_that_are_all_but_impossible(scale):
    hidden, table, _, weights = example(6)
    hidden *= scale
    logits = tf.matmul(hidden, table, transpose_b=True)
    targets = tf.argmin(logits, axis=1, output_type=tf.int32)
    wanted = plain(hidden, table, targets, weights)
    loss = losses.linear_cross_entropy(hidden, table, targets, weights)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    best = tf.argmax(logits, axis=1, output_type=tf.int32)
    np.testing.assert_allclose(
        losses.linear_cross_entropy(hidden, table, best, weights),
        plain(hidden, table, best, weights),
        rtol=1e-4,
        atol=1e-6,
    )


def test_a_loss_that_is_no_number_says_so():
    hidden, table, targets, weights = example(3)
    loss = losses.linear_cross_entropy(hidden * np.nan, table, targets, weights + 1.0)
    assert np.isnan(loss)


@pytest.mark.parametrize("rows", [0, 1, 5, 300, 1000])
def test_equal_chunks_give_the_same(rows, monkeypatch):
    monkeypatch.setattr(losses, "_CHUNK_ELEMENTS", 7 * 128)
    rng = np.random.default_rng(rows)
    hidden = tf.constant(rng.normal(size=(rows, 3)), tf.float32)
    table = tf.constant(rng.normal(size=(7, 3)), tf.float32)
    targets, weights = rng.integers(0, 7, rows), rng.random(rows).astype(np.float32)
    found = []
    for equal in (False, True):
        for signature in ([rows, 3], [None, 3]):

            @tf.function(input_signature=[tf.TensorSpec(signature), tf.TensorSpec([7, 3])])
            def loss_and_gradients(hidden, table, equal=equal):
                with tf.GradientTape() as tape:
                    tape.watch([hidden, table])
                    loss = losses.linear_cross_entropy(
                        hidden, table, targets, weights, equal_chunks=equal
                    )
                plain = losses.linear_cross_entropy(
                    hidden, table, targets, weights, differentiable=False, equal_chunks=equal
                )
                return loss, plain, *tape.gradient(loss, [hidden, table])

            found.append(loss_and_gradients(hidden, table))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 129, 300])
def test_a_bias_and_what_is_right(monkeypatch, rows):
    monkeypatch.setattr(losses, "_CHUNK_ELEMENTS", 1)
    hidden, table, targets, weights = example(rows)
    bias = tf.constant(np.random.default_rng(5).standard_normal(17), tf.float32)

    @tf.function
    def chunked(hidden, table, bias):
        with tf.GradientTape() as tape:
            tape.watch([hidden, table, bias])
            loss, hits = losses.linear_cross_entropy_and_hits(
                hidden, table, targets, weights, bias=bias
            )
        return loss, hits, tape.gradient(loss, [hidden, table, bias])

    with tf.GradientTape() as tape:
        tape.watch([hidden, table, bias])
        logits = tf.matmul(hidden, table, transpose_b=True) + bias
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
        wanted = tf.reduce_sum(each * weights)
    right = tf.cast(tf.argmax(logits, 1, tf.int32) == targets, tf.float32)
    loss, hits, slopes = chunked(hidden, table, bias)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(hits, tf.reduce_sum(right * weights), rtol=1e-6)
    for ours, theirs in zip(slopes, tape.gradient(wanted, [hidden, table, bias]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    alone = losses.linear_cross_entropy_and_hits(
        hidden, table, targets, weights, bias=bias, differentiable=False
    )
    np.testing.assert_allclose(alone, [loss, hits], rtol=1e-6)
    forward = losses.linear_cross_entropy(hidden, table, targets, weights, bias=bias)
    np.testing.assert_allclose(forward, loss, rtol=1e-6)
