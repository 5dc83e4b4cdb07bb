import math

import numpy as np
import pytest

from tfllm import metrics


def test_by_hand():
    found = metrics.regression(np.array([1, 2, 3]), np.array([1, 2, 6], np.float32))
    assert found == pytest.approx(
        {"pearson": 5 / math.sqrt(28), "spearman": 1.0, "mean_squared_error": 3.0}
    )


def test_equal_values_share_a_rank():
    # Ranks 1.5 1.5 3 against 1 2 3: covariance 1.5, powers 1.5 and 2.
    found = metrics.regression(np.array([5.0, 5.0, 7.0]), np.array([1.0, 2.0, 9.0]))
    assert found["spearman"] == pytest.approx(1.5 / math.sqrt(1.5 * 2))


@pytest.mark.parametrize("scores", [[2.0, 2.0, 2.0], [0.0, math.nan, 1.0], [0.0, math.inf, 1.0]])
def test_nothing_to_correlate(scores):
    found = metrics.regression(np.array([1.0, 2.0, 3.0]), np.array(scores))
    assert found["pearson"] == found["spearman"] == 0.0
    assert math.isfinite(found["mean_squared_error"]) == np.isfinite(scores).all()


def test_nearly_equal_values_are_measured_without_a_word():
    found = metrics.regression(np.array([1.0, 2.0, 3.0]), np.array([1e9, 1e9, 1e9 + 1e-4]))
    assert found["pearson"] == pytest.approx(found["spearman"], abs=1e-5)
    assert found["spearman"] == pytest.approx(math.sqrt(3) / 2, abs=1e-6)


def test_equal_targets_and_few_rows():
    found = metrics.regression(np.array([2.0, 2.0]), np.array([1.0, 3.0]))
    assert found == {"pearson": 0.0, "spearman": 0.0, "mean_squared_error": 1.0}
    found = metrics.regression(np.array([2.0]), np.array([1.0]))
    assert found == {"pearson": 0.0, "spearman": 0.0, "mean_squared_error": 1.0}
    found = metrics.regression(np.zeros(0), np.zeros(0))
    assert found == {"pearson": 0.0, "spearman": 0.0, "mean_squared_error": 0.0}
