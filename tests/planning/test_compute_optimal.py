import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.errors import InputError
from tfllm.planning import compute_optimum, expected_loss

budgets = st.floats(1e12, 1e26)


def test_the_rule_by_hand():
    rule, _ = compute_optimum(6 * 20 * 1e6 * 1e6)  # 10⁶ parameters that read 2·10⁷ tokens
    assert rule.parameters == pytest.approx(1e6)
    assert rule.tokens == pytest.approx(2e7)


def test_the_law_is_the_papers():
    # Table A3 of the paper, approach 3: 10²⁴ operations and 1.0·10²⁵ give 40 and 100+ billion.
    _, law = compute_optimum(5.76e23)  # Gopher's budget
    assert 30e9 < law.parameters < 45e9
    assert expected_loss(280e9, 300e9) == pytest.approx(1.993, abs=1e-3)


@given(budgets)
def test_both_spend_the_budget(flops):
    for best in compute_optimum(flops):
        assert 6 * best.parameters * best.tokens == pytest.approx(flops)
        assert best.loss == expected_loss(best.parameters, best.tokens)


@given(budgets, st.floats(0.5, 2).filter(lambda share: abs(share - 1) > 0.01))
def test_no_other_division_is_better_by_the_law(flops, share):
    rule, law = compute_optimum(flops)
    assert law.loss <= rule.loss
    assert law.loss < expected_loss(share * law.parameters, law.tokens / share)


@pytest.mark.parametrize("flops", [0.0, -1.0, float("nan")])
def test_no_budget_is_refused(flops):
    with pytest.raises(InputError, match="above 0"):
        compute_optimum(flops)
