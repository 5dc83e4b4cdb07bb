"""What a run takes, from its model to its last step."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from tfllm.planning.device_speed import DeviceSpeed
from tfllm.planning.largest_batch import largest_batch, suggest_accumulation
from tfllm.planning.memory import Memory, estimate_memory
from tfllm.planning.operations import count_operations
from tfllm.planning.step_time import estimate_step
from tfllm.planning.training_plan import TrainingPlan

__all__ = ["RunPlan", "Workload", "plan_run"]


class Workload(NamedTuple):
    """What there is to do.

    Attributes:
        rows: of an epoch.
        row_tokens: mean of a row, padding to the longest of its batch not counted.
        epochs: passes over the rows.
        max_steps: optimizer steps at most; None for no limit.
        global_batch_size: rows of an optimizer step.
        devices: that share them.
    """

    rows: int
    row_tokens: float
    epochs: int
    max_steps: int | None
    global_batch_size: int
    devices: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass."""
        return max(1, math.ceil(self.rows / self.global_batch_size))

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run."""
        steps = self.epochs * self.steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    @property
    def rows_of_a_device(self) -> int:
        """Rows of one device in an optimizer step."""
        return math.ceil(self.global_batch_size / self.devices)


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """What a run takes.

    Attributes:
        plan: the micro-batch of one device.
        memory: of one device, at its widest moment.
        fits: whether that is no more than there is.
        largest_rows: of a micro-batch that fits; 0 for none.
        suggested_steps: the fewest `accumulate_steps` that fit; None where nothing does.
        step_operations: of matrix products, over all devices.
        step_seconds: of an optimizer step.
        steps_per_epoch: optimizer steps of one pass over the data.
        total_steps: of the run.
        tokens_per_second: that are trained on, over all devices.
    """

    plan: TrainingPlan
    memory: Memory
    fits: bool
    largest_rows: int
    suggested_steps: int | None
    step_operations: float
    step_seconds: float
    steps_per_epoch: int
    total_steps: int
    tokens_per_second: float

    @property
    def epoch_seconds(self) -> float:
        """Of one pass over the data."""
        return self.step_seconds * self.steps_per_epoch

    @property
    def total_seconds(self) -> float:
        """Of all steps; starting, validation and export come on top."""
        return self.step_seconds * self.total_steps

    def numbers(self) -> dict[str, Any]:
        """Give what programs read: bytes, seconds and counts."""
        parameters = self.plan.parameters
        return {
            "parameters": parameters.total + self.plan.adapters,
            "trainable_parameters": self.plan.trainable,
            "step_operations": self.step_operations,
            "total_operations": self.step_operations * self.total_steps,
            "memory_bytes": dataclasses.asdict(self.memory)
            | {"allocator": self.memory.allocator, "total": self.memory.total},
            "fits": self.fits,
            "largest_batch": self.largest_rows,
            "suggested_accumulate_steps": self.suggested_steps,
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
            "step_seconds": self.step_seconds,
            "epoch_seconds": self.epoch_seconds,
            "total_seconds": self.total_seconds,
            "tokens_per_second": self.tokens_per_second,
        }


def plan_run(plan: TrainingPlan, work: Workload, speed: DeviceSpeed, memory: int) -> RunPlan:
    """Say what a run takes.

    Memory is that of the longest rows, as wide as `plan.tokens`; time is that of the mean row.
    Devices are taken to be alike, and to lose no time to each other.

    Args:
        plan: what is trained; its rows are set to what the work asks of a device.
        work: how many rows, how often.
        speed: of one device.
        memory: bytes that one device's process may take.
    """
    rows = math.ceil(work.rows_of_a_device / plan.accumulate_steps)
    plan = dataclasses.replace(plan, rows=rows)
    needed = estimate_memory(plan)
    mean = dataclasses.replace(plan, tokens=max(1, round(work.row_tokens)))
    seconds = estimate_step(mean, speed).total
    return RunPlan(
        plan=plan,
        memory=needed,
        fits=needed.total <= memory,
        largest_rows=largest_batch(plan, memory),
        suggested_steps=suggest_accumulation(plan, work.rows_of_a_device, memory),
        step_operations=count_operations(mean).total * plan.accumulate_steps * work.devices,
        step_seconds=seconds,
        steps_per_epoch=work.steps_per_epoch,
        total_steps=work.total_steps,
        tokens_per_second=work.global_batch_size * work.row_tokens / seconds,
    )
