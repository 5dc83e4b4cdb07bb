import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.layers.crf import CRF, Allowed, Chain, log_likelihood, marginals, viterbi

# One graph for all shapes, as in a model.
_FLOATS = tf.TensorSpec([None, None], tf.float32)
_ROWS = tf.TensorSpec([None, None, None], tf.float32)
_VECTOR = tf.TensorSpec([None], tf.float32)
_CHAIN = [_FLOATS, _VECTOR, _VECTOR, _ROWS]
_TAGS = tf.TensorSpec([None, None], tf.int32)
_LENGTHS = tf.TensorSpec([None], tf.int32)
_INPUTS = {"input_signature": [*_CHAIN, _TAGS, _LENGTHS], "autograph": False}


@tf.function(**_INPUTS)
def likelihood_and_gradients(transitions, starts, ends, emissions, tags, lengths):
    given = [transitions, starts, ends, emissions]
    with tf.GradientTape() as tape:
        tape.watch(given)
        found = log_likelihood(Chain(*given[:3]), emissions, tags, lengths)
        # Rows of different weight: an upstream gradient of ones would hide a missing factor.
        weighted = tf.reduce_sum(found * (1.0 + tf.range(tf.size(found), dtype=tf.float32)))
    return found, tape.gradient(weighted, given)


@tf.function(**_INPUTS)
def best_and_marginals(transitions, starts, ends, emissions, tags, lengths):
    chain = Chain(transitions, starts, ends)
    return viterbi(chain, emissions, lengths), marginals(chain, emissions, lengths)


@st.composite
def cases(draw):
    """A chain with constraints or none, emissions, legal tags, lengths from 0 to 5."""
    classes, rows = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(0, 5), min_size=rows, max_size=rows))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))
    words = max(lengths) + draw(st.integers(0, 1))
    scores = [
        scale * rng.normal(size=shape)
        for shape in ((classes, classes), (classes,), (classes,), (rows, words, classes))
    ]
    if draw(st.booleans()):
        # The last class may always stand anywhere, so that each length has a legal row.
        for part in scores[:3]:
            forbidden = rng.random(part.shape) < 0.4
            forbidden[..., -1] = False
            part[forbidden] = -1e30
        scores[0][-1, -1] = scores[1][-1] = scores[2][-1] = 0.0
    tags = np.zeros((rows, words), int)
    for row, length in enumerate(lengths):
        legal = [t for t in itertools.product(range(classes), repeat=length)]
        legal = [t for t in legal if score(scores, row, t) > -1e29]
        tags[row, :length] = legal[rng.integers(len(legal))]
    return scores, tags, np.array(lengths)


def score(scores, row, tags):
    transitions, starts, ends, emissions = scores
    if not tags:
        return 0.0
    total = starts[tags[0]] + ends[tags[-1]] + sum(emissions[row, t, y] for t, y in enumerate(tags))
    return total + sum(transitions[pair] for pair in itertools.pairwise(tags))


def every_row(scores, row, length):
    """All rows of tags with their probabilities, in float64."""
    classes = len(scores[1])
    rows = list(itertools.product(range(classes), repeat=length))
    all_scores = np.array([score(scores, row, tags) for tags in rows])
    shares = np.exp(all_scores - all_scores.max())
    return rows, shares / shares.sum()


def expected_counts(scores, lengths, tags):
    """Gradients of the summed weighted log-likelihood: counts in the tags less expected ones."""
    gradients = [np.zeros_like(part) for part in scores]
    for row, length in enumerate(lengths):
        rows, shares = every_row(scores, row, length)
        weighted = [(tuple(tags[row, :length]), 1.0), *zip(rows, -shares, strict=True)]
        for path, share in weighted:
            share *= row + 1.0
            for t, y in enumerate(path):
                gradients[3][row, t, y] += share
            for pair in itertools.pairwise(path):
                gradients[0][pair] += share
            if path:
                gradients[1][path[0]] += share
                gradients[2][path[-1]] += share
    return gradients


def as_tensors(scores, tags, lengths):
    return [
        *(tf.constant(part, tf.float32) for part in scores),
        tf.constant(tags, tf.int32),
        tf.constant(lengths, tf.int32),
    ]


@given(cases())
@settings(max_examples=30)
def test_likelihood_and_gradients_equal_enumeration(case):
    scores, tags, lengths = case
    found, gradients = likelihood_and_gradients(*as_tensors(*case))
    for row, length in enumerate(lengths):
        rows, shares = every_row(scores, row, length)
        share = shares[rows.index(tuple(tags[row, :length]))]
        assert float(found[row]) == pytest.approx(np.log(share), abs=3e-5, rel=1e-5)
    wanted = expected_counts(scores, lengths, tags)
    for mine, theirs in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


@given(cases())
@settings(max_examples=30)
def test_viterbi_and_marginals_equal_enumeration(case):
    scores, _, lengths = case
    paths, probabilities = best_and_marginals(*as_tensors(*case))
    for row, length in enumerate(lengths):
        rows, shares = every_row(scores, row, length)
        path = tuple(paths[row, :length].numpy())
        assert shares[rows.index(path)] >= shares.max() * (1 - 1e-5)
        assert (paths[row, length:] == -1).numpy().all()
        wanted = np.zeros(probabilities.shape[1:])
        for tags, share in zip(rows, shares, strict=True):
            wanted[range(length), tags] += share
        np.testing.assert_allclose(probabilities[row], wanted, atol=1e-5)


def test_what_is_not_allowed_is_never_found_and_costs_no_probability():
    # From 0 only to 1, from 1 only to 0, and a start in 0 alone: one row of tags is left.
    allowed = Allowed(np.array([[0, 1], [1, 0]], bool), np.array([1, 0], bool), np.ones(2, bool))
    emissions = tf.constant([[[0.0, 50.0]] * 4])  # all for class 1
    chain = allowed.chain()
    assert viterbi(chain, emissions, [4]).numpy().tolist() == [[0, 1, 0, 1]]
    assert float(log_likelihood(chain, emissions, [[0, 1, 0, 1]], [4])[0]) == 0.0
    assert float(log_likelihood(chain, emissions, [[1, 1, 1, 1]], [4])[0]) < -1e29
    np.testing.assert_array_equal(marginals(chain, emissions, [4])[0, :, 0], [1, 0, 1, 0])


def test_rows_may_begin_in_different_ways():
    allowed = Allowed(np.ones((2, 2), bool), np.array([1, 0], bool), np.ones(2, bool))
    chain = allowed.chain()
    chain = chain._replace(starts=tf.stack([chain.starts, tf.zeros([2])]))
    emissions = tf.constant([[[0.0, 5.0]]] * 2)
    assert viterbi(chain, emissions, [1, 1]).numpy().tolist() == [[0], [1]]


def test_a_long_row_keeps_its_probability():
    # 500 words, each of probability 1/9: float32's sums must not lose it.
    emissions = tf.nn.log_softmax(tf.zeros([1, 500, 9]))
    chain = Allowed.everything(9).chain()
    found = log_likelihood(chain, emissions, tf.zeros([1, 500], tf.int32), [500])
    assert float(found[0]) == pytest.approx(-500 * np.log(9), rel=1e-5)


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_the_factor_is_one_on_the_learning_rate(optimizer):
    tags, lengths = [[0, 1, 2]], [3]
    emissions = tf.constant(np.random.default_rng(3).normal(size=[1, 3, 3]), tf.float32)
    found = []
    for factor, rate in ((1.0, 0.64), (64.0, 0.01)):
        crf = CRF(3, learning_rate_factor=factor)
        step = optimizer(rate)
        for _ in range(3):
            with tf.GradientTape() as tape:
                loss = -log_likelihood(crf.chain(), emissions, tags, lengths)[0]
            gradients = tape.gradient(loss, crf.trainable_variables)
            step.apply_gradients(zip(gradients, crf.trainable_variables, strict=True))
        found.append(crf.tensors())
    for part in ("transitions", "starts", "ends"):
        assert np.abs(found[0][part]).max() > 0.1
        np.testing.assert_allclose(found[1][part], found[0][part], atol=1e-4)


def test_weights_go_out_and_in_unchanged():
    rng = np.random.default_rng(0)
    crf, again = CRF(3), CRF(3)
    for variable in crf.weights:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    again.assign(crf.tensors())
    for mine, theirs in zip(again.chain(), crf.chain(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match="3"):
        CRF(4).assign(crf.tensors())


def exact_marginals(transitions, starts, ends, emissions):
    """The same probabilities in float64, of one row."""
    scores = emissions.astype(np.float64)
    scores[0] += starts
    scores[-1] += ends
    forward, backward = [scores[0]], [np.zeros(len(starts))]
    for row in scores[1:]:
        forward.append(np.logaddexp.reduce(forward[-1][:, None] + transitions, axis=0) + row)
    for row in scores[:0:-1]:
        backward.append(np.logaddexp.reduce(transitions + row + backward[-1], axis=1))
    total = np.logaddexp.reduce(forward[-1])
    return np.exp(np.array(forward) + np.array(backward[::-1]) - total)


@pytest.mark.parametrize("words", [3, 60, 500])
def test_rounding_does_not_grow_with_the_length(words):
    rng = np.random.default_rng(words)
    shapes = ((5, 5), (5,), (5,), (2, words, 5))
    scores = [3 * rng.normal(size=shape).astype(np.float32) for shape in shapes]
    tags, lengths = np.zeros((2, words), np.int32), np.full(2, words, np.int32)
    found = best_and_marginals(*scores, tags, lengths)[1].numpy()
    for row, emissions in zip(found, scores[3], strict=True):
        wanted = exact_marginals(*map(np.float64, scores[:3]), emissions)
        np.testing.assert_allclose(row, wanted, rtol=0, atol=2e-6)
