"""How large a model from scratch should be, and how much text it should read.

Reference:
    Hoffmann et al., Training Compute-Optimal Large Language Models, 2022, arXiv:2203.15556.
"""

from __future__ import annotations

from typing import NamedTuple

from tfllm.errors import InputError

__all__ = ["LAW", "TOKENS_PER_PARAMETER", "ComputeOptimum", "compute_optimum", "expected_loss"]

# Table 3 of the paper, approaches 1 and 2: parameters and tokens grow alike, about 20 to 1.
TOKENS_PER_PARAMETER = 20.0

# Section 3.3, equation 10: L(N, D) = E + A / N^alpha + B / D^beta, in nats a token of their data.
LAW = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
_E, _A, _B, _ALPHA, _BETA = LAW.values()


class ComputeOptimum(NamedTuple):
    """A size and an amount of text that spend a budget of operations best.

    Attributes:
        parameters: of the model.
        tokens: that it reads.
        loss: that the parametric law expects, in nats a token of the paper's data.
    """

    parameters: float
    tokens: float
    loss: float


def expected_loss(parameters: float, tokens: float) -> float:
    """What the parametric law says a model's loss is, in nats a token of the paper's data.

    Args:
        parameters: of the model.
        tokens: that it reads, each once.

    Example:
        >>> round(expected_loss(70e9, 1.4e12), 2)  # Chinchilla
        1.94
    """
    return _E + _A / parameters**_ALPHA + _B / tokens**_BETA


def compute_optimum(flops: float) -> tuple[ComputeOptimum, ComputeOptimum]:
    """Divide a budget between parameters and tokens, two ways.

    A token costs six operations for each parameter. The rule of thumb reads 20 tokens for each
    parameter. The parametric law is lowest where
    `N = G · (C/6)^(β/(α+β))` with `G = (αA/βB)^(1/(α+β))`; it was fitted to models of 70 million
    parameters and more, and below them it extrapolates.

    Args:
        flops: operations of the whole training, C.

    Returns:
        the rule's and the law's.

    Raises:
        InputError: if the budget is not above 0.
    """
    if not flops > 0:
        raise InputError(f"a budget of operations must be above 0. Received: {flops}")
    pairs = flops / 6.0  # parameters times tokens
    by_rule = (pairs / TOKENS_PER_PARAMETER) ** 0.5
    scale = (_ALPHA * _A / (_BETA * _B)) ** (1.0 / (_ALPHA + _BETA))
    by_law = scale * pairs ** (_BETA / (_ALPHA + _BETA))
    rule, law = (
        ComputeOptimum(n, pairs / n, expected_loss(n, pairs / n)) for n in (by_rule, by_law)
    )
    return rule, law
