"""Plans as plain tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfllm.planning.run_plan import RunPlan

__all__ = ["format_advice", "format_plan", "format_ranking"]

_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_plan(plan: RunPlan) -> str:
    """Show what one run takes, a fact a line."""
    parameters, memory = plan.plan.parameters, plan.memory
    total = parameters.total + plan.plan.adapters
    parts = {
        "  TensorFlow": memory.tensorflow,
        "  weights": memory.weights,
        "  optimizer": memory.optimizer,
        "  gradients": memory.gradients,
        "  activations": memory.activations,
        "  logits": memory.logits,
        "  allocator": memory.allocator,
    }
    rows = [
        ("parameters", f"{total:,}", f"{plan.plan.trainable:,} train"),
        ("operations of a step", _short(plan.step_operations), "forward and backward"),
        ("memory of a device", _bytes(memory.total), f"widest moment: {memory.moment}"),
        *((name, _bytes(size), "") for name, size in parts.items()),
        ("rows that fit", f"{plan.largest_rows:,}", "of one micro-batch"),
        ("time of a step", _duration(plan.step_seconds), f"{plan.total_steps:,} steps"),
        ("time of an epoch", _duration(plan.epoch_seconds), f"{plan.steps_per_epoch:,} steps"),
        ("time of training", _duration(plan.total_seconds), "start, validation, export on top"),
        ("tokens a second", f"{plan.tokens_per_second:,.0f}", ""),
    ]
    return _aligned(rows)


def format_ranking(ranked: Sequence[tuple[str, RunPlan, bool]]) -> str:
    """Show what several models take, a model a line, those that fit first."""
    head = (
        "model",
        "parameters",
        "fits",
        "memory",
        "micro-batches",
        "epoch",
        "training",
        "tokens/s",
    )
    rows = [head]
    for name, plan, fits in ranked:
        rows.append(
            (
                name,
                f"{plan.plan.parameters.total:,}",
                "yes" if fits else "no",
                _bytes(plan.memory.total),
                "-" if plan.suggested_steps is None else f"{plan.suggested_steps}",
                _duration(plan.epoch_seconds),
                _duration(plan.total_seconds),
                f"{plan.tokens_per_second:,.0f}",
            )
        )
    return _aligned(rows)


def format_advice(advice: Mapping[str, Any]) -> Iterator[str]:
    """Say what a budget of operations is best spent on.

    Args:
        advice: `operations`, `tokens_for_these_parameters`, `tokens_of_this_run`, and by the names
            `twenty_tokens_a_parameter` and `parametric_law` a `ComputeOptimum`'s numbers.
    """
    yield (
        "Compute-optimal (Hoffmann et al., 2022): so many parameters want "
        f"{advice['tokens_for_these_parameters']:,.0f} tokens, 20 each. This run reads "
        f"{advice['tokens_of_this_run']:,.0f}; the data holds {advice['tokens_of_the_data']:,.0f}."
    )
    yield f"With {_short(advice['operations'])} in all, 6 a parameter and token:"
    rows = [("  by", "parameters", "tokens")]
    for name, key in (
        ("  20 tokens a parameter", "twenty_tokens_a_parameter"),
        ("  the parametric law", "parametric_law"),
    ):
        best = advice[key]
        rows.append((name, f"{best['parameters']:,.0f}", f"{best['tokens']:,.0f}"))
    yield _aligned(rows)
    constants = ", ".join(f"{name} {value}" for name, value in advice["constants"].items())
    yield (
        f"The law is L = E + A/N^alpha + B/D^beta with {constants}, fitted to models of 70 million "
        "parameters and more: below them it extrapolates."
    )


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _bytes(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def _short(number: float) -> str:
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.3g} {unit}FLOP"
    return f"{number:.0f} FLOP"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:,.1f} h"
