import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TFTopKLogitsWarper, TFTopPLogitsWarper

from tfllm.generation import filters
from tfllm.generation.sampling import Sampling, choose_next, shares_of


def logits_of(shares: list[list[float]]) -> tf.Tensor:
    return tf.math.log(tf.constant(shares))


def kept(shares: list[float], **filters: float) -> set[int]:
    left = shares_of(logits_of([shares]), Sampling(**filters)).numpy()[0]
    return set(np.flatnonzero(left).tolist())


def test_the_likeliest_words_are_kept():
    shares = [0.2, 0.5, 0.05, 0.25]
    assert kept(shares) == {0, 1, 2, 3}
    assert kept(shares, top_k=2) == {1, 3}
    assert kept(shares, top_p=0.5) == {1}
    assert kept(shares, top_p=0.6) == {1, 3}
    assert kept(shares, top_p=0.0) == {1}
    assert kept(shares, min_p=0.4) == {0, 1, 3}
    assert kept(shares, min_p=1.0) == {1}


def test_each_filter_sees_what_the_one_before_left():
    # Of .5 .3 .2 top_k leaves .625 .375: the first alone is .6 of it, and not of all.
    shares = [0.5, 0.3, 0.2]
    assert kept(shares, top_k=2, top_p=0.6) == {0}
    assert kept(shares, top_p=0.6) == {0, 1}


def test_words_of_equal_logit_stay_together():
    shares = [0.1, 0.2, 0.2, 0.2, 0.3]
    assert kept(shares, top_k=2) == {1, 2, 3, 4}
    assert kept(shares, top_k=2, top_p=0.3) == {4}
    assert kept(shares, top_p=0.4) == {1, 2, 3, 4}


@st.composite
def cases(draw):
    """Logits in random order without near-ties, and filters that do not turn on a rounding."""
    words = draw(st.integers(2, 600))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.01, 1.0, 5.0, 60.0]))
    logits = np.float32(spread * (rng.permutation(words) + rng.uniform(0.2, 0.8)) / words)
    top_k = draw(st.integers(0, words + 3))
    top_p = draw(st.one_of(st.just(1.0), st.floats(0.0, 0.99999)))
    min_p = draw(st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-6, 1.0)))
    return logits, top_k, top_p, min_p


def by_brute_force(logits, top_k, top_p, min_p) -> tuple[set[int], float]:
    """The kept set in float64, and how far from its border the nearest number is."""
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    shares = np.exp(logits[order].astype(np.float64) - logits.max())
    shares /= shares.sum()
    before = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    gap = np.abs(before - top_p)[1:].min(initial=1.0) if top_p < 1 else 1.0
    if top_p < 1:
        order = order[: max(1, int((before < top_p).sum()))]
    ratios = np.exp(logits[order].astype(np.float64) - logits.max())
    gap = min(gap, np.abs(ratios / min_p - 1).min()) if 0 < min_p < 1 else gap
    return set(order[ratios >= min_p].tolist()), gap


@settings(max_examples=30)
@given(cases(), st.booleans())
def test_the_kept_set_is_the_definition(case, small):
    logits, top_k, top_p, min_p = case
    wanted, gap = by_brute_force(logits, top_k, top_p, min_p)
    if gap < 1e-5:
        return
    with pytest.MonkeyPatch.context() as patch:
        # Large vocabularies take another way to the same set.
        patch.setattr(filters, "_SMALL", 256 if small else 0)
        sampling = Sampling(top_k=top_k, top_p=tf.constant([top_p]), min_p=min_p)
        found = shares_of(tf.constant(logits[None]), sampling).numpy()[0]
    assert set(np.flatnonzero(found).tolist()) == wanted


@settings(max_examples=15)
@given(cases())
def test_the_kept_set_equals_that_of_transformers(case):
    logits, top_k, top_p, _ = case
    if by_brute_force(logits, top_k, top_p, 0.0)[1] < 1e-5:
        return
    scores = tf.constant(logits[None])
    if top_k:
        scores = TFTopKLogitsWarper(top_k)(None, scores, 0)
    if top_p < 1.0:
        scores = TFTopPLogitsWarper(top_p)(None, scores, 0)
    found = shares_of(tf.constant(logits[None]), Sampling(top_k=top_k, top_p=top_p)).numpy()
    np.testing.assert_array_equal(found > 0, np.isfinite(scores))


def test_rows_and_tensors_give_what_numbers_give_alone():
    rng = np.random.default_rng(3)
    logits = tf.constant(rng.standard_normal([6, 700]), tf.float32)
    each = Sampling(
        temperature=tf.constant([1.0, 0.7, 2.0, 1.0, 1.0, 0.0]),
        top_k=tf.constant([0, 5, 300, 0, 0, 7]),
        top_p=tf.constant([1.0, 0.9, 0.5, 0.99, 1.0, 0.2]),
        min_p=tf.constant([0.0, 0.0, 0.0, 0.1, 0.2, 0.0]),
        seed=tf.constant([1, 2, 3, 4, 5, 6]),
    )
    together = tf.function(shares_of)(logits, each).numpy()
    drawn = choose_next(logits, each, tf.constant(9)).numpy()
    for row in range(6):
        alone = Sampling(*(setting.numpy()[row].item() for setting in each))
        shares = shares_of(logits[row : row + 1], alone).numpy()[0]
        np.testing.assert_array_equal(shares > 0, together[row] > 0)
        np.testing.assert_allclose(shares, together[row], rtol=1e-5)
        assert choose_next(logits[row : row + 1], alone, tf.constant(9)).numpy() == drawn[row]


def test_draws_have_the_right_frequencies():
    rows, words = 100_000, 700
    shares = np.random.default_rng(1).exponential(size=words)
    shares /= shares.sum()
    logits = tf.repeat(logits_of([shares.tolist()])[None, 0], rows // 100, axis=0)
    counts = np.zeros(words)
    draw = tf.function(lambda seeds: choose_next(logits, Sampling(seed=seeds), tf.constant(0)))
    for start in range(0, rows, rows // 100):
        counts += np.bincount(draw(tf.range(start, start + rows // 100)), minlength=words)
    chi_square = ((counts - rows * shares) ** 2 / (rows * shares)).sum()
    # About normal with mean 699 and deviation 37.4; the bound is at p = 0.001.
    assert chi_square < 699 + 3.1 * 37.4 + 7


def test_filtered_draws_have_the_right_frequencies():
    rows = 20_000
    logits = tf.repeat(logits_of([[0.05, 0.4, 0.1, 0.3, 0.15]]), rows, axis=0)
    sampling = Sampling(0.8, top_k=4, top_p=0.9, min_p=0.25, seed=tf.range(rows))
    counts = np.bincount(choose_next(logits, sampling, tf.constant(2)), minlength=5)
    weights = np.array([0.0, 0.4, 0.0, 0.3, 0.15]) ** (1 / 0.8)
    expected = rows * weights / weights.sum()
    assert counts[[0, 2]].tolist() == [0, 0]
    left = expected > 0
    chi_square = ((counts[left] - expected[left]) ** 2 / expected[left]).sum()
    assert chi_square < 13.8  # p = 0.001 at two degrees of freedom


def test_a_word_without_a_share_is_never_drawn():
    # All of the mass lies in the first block's end and the last word; blocks between are empty.
    logits = np.full([2000, 1000], -np.inf, np.float32)
    logits[:, [255, 999]] = 0.0
    drawn = choose_next(tf.constant(logits), Sampling(seed=tf.range(2000)), tf.constant(1)).numpy()
    assert set(drawn.tolist()) == {255, 999}


def test_steps_of_one_row_are_independent_draws():
    logits = logits_of([[0.5, 0.5]])
    draw = tf.function(lambda step: choose_next(logits, Sampling(seed=1), step))
    drawn = [int(draw(tf.constant(i))[0]) for i in range(400)]
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


def test_a_temperature_that_is_no_number_takes_the_likeliest_in_a_graph_too():
    @tf.function(input_signature=[tf.TensorSpec([None])], autograph=False)
    def choose(temperature):
        logits = tf.tile([[0.0, 5.0, 5.1]], [tf.size(temperature), 1])
        sampling = Sampling(temperature, seed=tf.range(tf.size(temperature)))
        return choose_next(logits, sampling, tf.constant(0))

    temperatures = tf.constant([float("nan"), 0.0, 1.0, -1.0] * 16)
    chosen = choose(temperatures).numpy().reshape(16, 4)
    assert set(chosen[:, [0, 1, 3]].ravel()) == {2} and set(chosen[:, 2]) == {1, 2}


def test_no_rows():
    sampling = Sampling(top_k=tf.constant([], tf.int32), top_p=0.5, min_p=0.1)
    assert choose_next(tf.zeros([0, 7]), sampling, tf.constant(0)).numpy().tolist() == []
