"""Which of several models a budget of memory and time allows."""

from __future__ import annotations

from collections.abc import Mapping

from tfllm.errors import InputError
from tfllm.planning.run_plan import RunPlan

__all__ = ["rank_models"]

_GIB = 1 << 30


def rank_models(
    plans: Mapping[str, RunPlan], *, memory: int, seconds: float | None
) -> list[tuple[str, RunPlan, bool]]:
    """Order models by what a budget allows: the largest that fits comes first.

    Of models of one kind the larger one is the better one as a rule, and how much better only
    training says. A run in micro-batches fits too.

    Args:
        plans: name → what a run with the model takes.
        memory: bytes that a process may take.
        seconds: that training may take; None for any number.

    Returns:
        name, plan and whether the budget allows it; those that it allows first.

    Raises:
        InputError: if it allows none; says what the least demanding one needs.
    """

    def allowed(plan: RunPlan) -> bool:
        in_time = seconds is None or plan.total_seconds <= seconds
        return plan.suggested_steps is not None and in_time

    order = sorted(
        plans.items(),
        key=lambda pair: (not allowed(pair[1]), -pair[1].plan.parameters.total, pair[0]),
    )
    if not any(allowed(plan) for plan in plans.values()):
        raise InputError(_nothing_fits(plans, memory, seconds))
    return [(name, plan, allowed(plan)) for name, plan in order]


def _nothing_fits(plans: Mapping[str, RunPlan], memory: int, seconds: float | None) -> str:
    name = min(plans, key=lambda name: plans[name].memory.total)
    plan = plans[name]
    short = plan.suggested_steps is None
    if short or seconds is None:
        return (
            f"nothing fits in --memory_gib {memory / _GIB:.3g}: the smallest of {len(plans)} "
            f"models, {name}, needs more than that for a single row of {plan.plan.tokens} tokens "
            f"({plan.memory.weights + plan.memory.optimizer >> 20:,} MiB are its weights and "
            f"moments, {plan.memory.tensorflow >> 20:,} MiB TensorFlow). Give more memory, "
            "a smaller model or a shorter --sequence_length"
        )
    quick = min(plans, key=lambda name: plans[name].total_seconds)
    return (
        f"nothing fits in --hours {seconds / 3600:.3g} and --memory_gib {memory / _GIB:.3g}: the "
        f"quickest of {len(plans)} models, {quick}, takes {plans[quick].total_seconds / 3600:.3g} "
        "hours. Give more time, fewer --epochs or a smaller model"
    )
