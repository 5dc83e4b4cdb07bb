import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.generation.sampling import Sampling, choose_next, keep_likely


def logits_of(shares: list[list[float]]) -> tf.Tensor:
    return tf.math.log(tf.constant(shares))


def kept(shares: list[float], top_k: int = 0, top_p: float = 1.0) -> dict[int, float]:
    order, left = keep_likely(logits_of([shares]), top_k, top_p)
    pairs = zip(order.numpy()[0].tolist(), left.numpy()[0].tolist(), strict=True)
    return {word: round(share, 5) for word, share in pairs if share}


def test_the_likeliest_words_are_kept():
    shares = [0.2, 0.5, 0.05, 0.25]
    assert kept(shares) == {1: 0.5, 3: 0.25, 0: 0.2, 2: 0.05}
    assert kept(shares, top_k=2) == {1: 0.5, 3: 0.25}
    assert kept(shares, top_p=0.5) == {1: 0.5}
    assert kept(shares, top_p=0.6) == {1: 0.5, 3: 0.25}
    assert kept(shares, top_k=3, top_p=0.6) == {1: 0.5, 3: 0.25}
    assert kept(shares, top_p=0.0) == {1: 0.5}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=30, unique=True),
    st.integers(0, 40),
    st.floats(0.0, 1.0),
)
def test_the_kept_set_is_the_definition(counts, top_k, top_p):
    shares = np.array(counts, np.float64) / sum(counts)
    order = np.argsort(-shares)
    before = np.concatenate([[0.0], np.cumsum(shares[order])[:-1]])
    if np.abs(before - top_p).min() < 1e-5:
        return  # the set turns on a rounding
    wanted = {
        int(word)
        for rank, word in enumerate(order)
        if (top_k == 0 or rank < top_k) and (rank == 0 or top_p >= 1 or before[rank] < top_p)
    }
    assert set(kept(shares.tolist(), top_k, top_p)) == wanted


def test_draws_have_the_right_frequencies():
    rows = 40_000
    shares = [0.5, 0.3, 0.2]
    logits = tf.repeat(logits_of([shares]), rows, axis=0)
    drawn = choose_next(logits, Sampling(seed=tf.range(rows)), tf.constant(0)).numpy()
    counts = np.bincount(drawn, minlength=3)
    chi_square = sum((counts[i] - rows * p) ** 2 / (rows * p) for i, p in enumerate(shares))
    assert chi_square < 13.8  # p = 0.001 at two degrees of freedom


def test_steps_of_one_row_are_independent_draws():
    logits = logits_of([[0.5, 0.5]])
    drawn = [int(choose_next(logits, Sampling(seed=1), tf.constant(i))[0]) for i in range(400)]
    pairs = np.bincount([2 * a + b for a, b in zip(drawn, drawn[1:], strict=False)], minlength=4)
    assert pairs.min() > 60  # each of the four pairs is expected 100 times


def test_temperature():
    logits = tf.constant([[0.0, 1.0, 0.5]] * 3000)
    seeds = tf.range(3000)
    assert set(choose_next(logits, Sampling(0.0, seed=seeds), tf.constant(0)).numpy()) == {1}
    cold = choose_next(logits, Sampling(0.1, seed=seeds), tf.constant(0)).numpy()
    hot = choose_next(logits, Sampling(100.0, seed=seeds), tf.constant(0)).numpy()
    assert (cold == 1).mean() > 0.98
    assert (hot == 1).mean() == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("temperature", [float("nan"), 1e-40, -1.0])
def test_a_temperature_of_no_meaning_takes_the_likeliest(temperature):
    chosen = choose_next(tf.constant([[0.0, 5.0, 1.0]]), Sampling(temperature), tf.constant(0))
    assert chosen.numpy().tolist() == [1]


def test_rows_have_their_own_settings():
    logits = logits_of([[0.1, 0.6, 0.3]] * 3)
    chosen = choose_next(
        logits,
        Sampling(
            tf.constant([0.0, 1.0, 5.0]), tf.constant([0, 1, 0]), tf.constant([1.0, 1.0, 0.1])
        ),
        tf.constant(0),
    )
    assert chosen.numpy().tolist() == [1, 1, 1]
