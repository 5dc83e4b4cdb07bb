from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data.mixture_plan import MixturePlan
from tfllm.errors import InputError


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(60, 130),
    st.integers(0, 9),
    st.integers(0, 3),
)
def test_proportions_are_exact_and_steps_have_no_gap(weights, window, seed, windows):
    plan = MixturePlan(weights, window=window, seed=seed)
    taken = [plan.source(step) for step in range((windows + 1) * window)]
    for source, weight in enumerate(weights):
        own = [step for which, step in taken if which == source]
        assert own == list(range((windows + 1) * int(plan.counts[source])))
        exact = Fraction(weight * window, sum(weights))
        assert abs(plan.counts[source] - exact) < 1
    assert plan.counts.sum() == window


def test_a_step_far_out():
    plan = MixturePlan([1, 3], window=8, seed=2)
    source, own = plan.source(8 * 10**12 + 5)
    assert own // [2, 6][source] == 10**12
    orders = {tuple(plan.source(8 * w + i)[0] for i in range(8)) for w in range(20)}
    assert len(orders) > 10  # of the 28 there are


def test_remainders_by_hand():
    assert MixturePlan([1, 2]).counts.tolist() == [33, 67]
    assert MixturePlan([1, 1, 1], window=4).counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [([], "positive"), ([1, 0], "positive"), ([1, np.nan], "positive"), ([1, 1e4], "too small")],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(InputError, match=message):
        MixturePlan(weights)
