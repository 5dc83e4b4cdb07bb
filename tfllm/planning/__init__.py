"""Planning: what a run takes in memory and time, said before it starts.

```
ModelSizes                       a config.json, or flags → sizes under one name each
TrainingPlan                     sizes, a task, rows and tokens, and what of the model trains
count_parameters                 → parameters, as Keras counts them
count_operations                 → operations of a step
estimate_memory, largest_batch   → bytes by part, and the rows that fit
SpeedMeter, estimate_step        → what the machine can do now, and seconds of a step
plan_run, rank_models            → a run's memory and time; of several models, what fits
draw_sample, count_tokens        texts → how many tokens they have
compute_optimum                  a budget of operations → parameters and tokens
```
Everything but `SpeedMeter` is arithmetic: no TensorFlow is imported.
"""

from tfllm.planning.compute_optimal import (
    LAW,
    TOKENS_PER_PARAMETER,
    ComputeOptimum,
    compute_optimum,
    expected_loss,
)
from tfllm.planning.device_speed import DeviceSpeed, SpeedMeter
from tfllm.planning.free_memory import free_memory
from tfllm.planning.largest_batch import largest_batch, suggest_accumulation
from tfllm.planning.memory import Memory, estimate_memory
from tfllm.planning.model_sizes import ModelSizes
from tfllm.planning.operations import Operations, count_operations
from tfllm.planning.parameters import Parameters, Task, check_task, count_parameters
from tfllm.planning.ranking import rank_models
from tfllm.planning.run_plan import RunPlan, Workload, plan_run
from tfllm.planning.step_time import StepTime, estimate_step
from tfllm.planning.tables import format_advice, format_plan, format_ranking
from tfllm.planning.token_count import Sample, TokenCount, count_tokens, cut_texts, draw_sample
from tfllm.planning.training_plan import MASKED_SHARE, TrainingPlan

__all__ = [
    "LAW",
    "MASKED_SHARE",
    "TOKENS_PER_PARAMETER",
    "ComputeOptimum",
    "DeviceSpeed",
    "Memory",
    "ModelSizes",
    "Operations",
    "Parameters",
    "RunPlan",
    "Sample",
    "SpeedMeter",
    "StepTime",
    "Task",
    "TokenCount",
    "TrainingPlan",
    "Workload",
    "check_task",
    "compute_optimum",
    "count_operations",
    "count_parameters",
    "count_tokens",
    "cut_texts",
    "draw_sample",
    "estimate_memory",
    "estimate_step",
    "expected_loss",
    "format_advice",
    "format_plan",
    "format_ranking",
    "free_memory",
    "largest_batch",
    "plan_run",
    "rank_models",
    "suggest_accumulation",
]
