"""The flags that all recipes share."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, Literal, TypedDict

from tfllm.errors import InputError

__all__ = [
    "Adaptation",
    "CommonConfig",
    "CompileOptions",
    "DeviceOptions",
    "ExportOptions",
    "LoraOptions",
    "OptimizerOptions",
    "RunOptions",
    "require",
]

ScheduleName = Literal["constant", "linear", "cosine", "inverse_square_root"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Storage = Literal["float32", "float16", "bfloat16"]
StrategyName = Literal["auto", "one", "mirrored", "multi_worker"]


class OptimizerOptions(TypedDict):
    """Flags as `tfllm.optimization.create_optimizer` takes them."""

    schedule: ScheduleName
    warmup_steps: int | None
    warmup_fraction: float | None
    weight_decay: float
    clip_norm: float
    average_momentum: float | None
    layer_decay: float | None


class CompileOptions(OptimizerOptions):
    """Flags as `tfllm.optimization.compile_model` takes them."""

    accumulate_steps: int
    xla: bool


class DeviceOptions(TypedDict):
    """Flags as `tfllm.training.set_up` takes them."""

    seed: int
    precision: Precision
    strategy: StrategyName
    global_batch_size: int
    accumulate_steps: int


class ExportOptions(TypedDict):
    """Flags as `tfllm.export.export_bundle` takes them."""

    storage: Storage
    keep: int | None


class LoraOptions(TypedDict):
    """Flags as `tfllm.models.apply_lora` takes them."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...] | None


class Adaptation(TypedDict):
    """Flags as `tfllm.models.adapt` takes them."""

    freeze_layers: int | None
    lora: LoraOptions | None


class RunOptions(TypedDict):
    """Flags as `tfllm.training.train_in_folder` takes them."""

    patience: int | None
    keep: int
    checkpoint_minutes: float
    checkpoint_steps: int | None
    profiled_steps: tuple[int, int] | None
    hyperparameters: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class CommonConfig:
    """The flags that all recipes share. A recipe's Config inherits them and adds its own."""

    train: tuple[str, ...] = ()
    """Training data: paths, or globs in quotes."""
    validation: tuple[str, ...] = ()
    """Validation data: paths, or globs in quotes. Without it, --train is split by a hash."""
    test: tuple[str, ...] = ()
    """Test data, scored once at the end with the best weights."""
    validation_fraction: float = 0.05
    """Share of the documents held out where --validation is not given, between 0 and 1."""
    pretrained: str | None = None
    """Go on from this model: a local transformers folder, or a name on the hub."""
    run_dir: str | None = None
    """Folder for checkpoints, TensorBoard and run.json. Default runs/RECIPE, then -2, -3 …"""
    export_dir: str = "savedmodels"
    """Folder that TF Serving bundles go to."""
    export_name: str | None = None
    """Name of the bundle: letters, digits, '.', '_', '-'. A default is made from the data."""
    storage: Storage = "float32"
    """What the bundle's matrices are stored as; the server computes in float32 all the same."""
    keep_versions: int | None = None
    """Versions of the bundle that stay, the new one included. Default: all."""
    epochs: int | None = 1
    """Passes over the training data."""
    max_steps: int | None = None
    """Stop after so many optimizer steps, however many epochs that is."""
    global_batch_size: int = 32
    """Rows of one optimizer step, over all devices and micro-batches."""
    accumulate_steps: int = 1
    """Micro-batches that each device cuts its rows into, to save memory."""
    learning_rate: float | None = 1e-3
    """Highest learning rate, reached at the end of the warm-up."""
    warmup_steps: int | None = None
    """Optimizer steps over which the learning rate rises from 0. Default: a tenth, at most 100."""
    warmup_fraction: float | None = None
    """The same as a share of all steps, in place of --warmup_steps."""
    learning_rate_schedule: ScheduleName = "cosine"
    """How the learning rate falls after the warm-up; cosine and linear end at a tenth."""
    weight_decay: float = 0.1
    """Decoupled decay of matrices, per unit of learning rate."""
    clip_norm: float = 1.0
    """Global norm that the gradients of a step are scaled down to."""
    average_momentum: float | None = None
    """Measure and export an exponential average of the weights, for example of 0.999 a step."""
    layer_decay: float | None = None
    """Each block learns at this share of the rate of the one above it, for example 0.9."""
    freeze_layers: int | None = None
    """Leave embeddings and so many of the lowest blocks as they are."""
    lora_rank: int | None = None
    """Train low-rank adapters of this rank on --pretrained's projections, and nothing below."""
    lora_alpha: float = 16.0
    """Adapters are scaled by --lora_alpha / --lora_rank."""
    lora_dropout: float = 0.0
    """Share of an adapter's inputs that training zeroes."""
    lora_targets: tuple[str, ...] = ()
    """Projections that get adapters, such as c_attn or query. Default: all of a block's."""
    sequence_length: int = 128
    """Tokens of a row."""
    precision: Precision = "float32"
    """Arithmetic of the layers; weights, losses and exported outputs stay float32."""
    xla: bool = False
    """Compile training steps with XLA: one device, rows of one length, a slower first step."""
    strategy: StrategyName = "auto"
    """Devices: auto takes all GPUs there are, or the workers of TF_CONFIG, else the CPU."""
    resume: Literal["auto", "never"] = "auto"
    """Whether an unfinished run in the run folder is continued."""
    early_stopping_patience: int | None = None
    """Stop after so many epochs without a better validation."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints within an epoch; each epoch ends with one."""
    checkpoint_steps: int | None = None
    """Save after each multiple of so many optimizer steps as well."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep, besides the best."""
    profile_steps: str | None = None
    """Optimizer steps that TensorFlow's profiler records, such as 100-110."""
    dry_run: bool = False
    """Read the data, show a batch, size, time and memory, try the export, train nothing."""
    seed: int = 0
    """Decides initial weights, order of the data and dropout."""

    def check(self) -> None:
        """Refuse values that no run can use.

        Raises:
            InputError: naming the flag and what was received.
        """
        for name, value in vars(self).items():
            finite = not isinstance(value, float) or math.isfinite(value)
            require(finite, name, value, "must be a finite number")
        for name in ("pretrained", "run_dir", "export_dir", "export_name"):
            require(getattr(self, name) != "", name, "''", "must not be empty")
        least_one = ("global_batch_size", "accumulate_steps", "sequence_length")
        for name in (*least_one, "keep_checkpoints"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("epochs", "max_steps", "early_stopping_patience", "checkpoint_steps"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "must be at least 1")
        keep = self.keep_versions
        require(keep is None or keep >= 1, "keep_versions", keep, "must be at least 1")
        for name in ("warmup_steps", "weight_decay", "checkpoint_minutes"):
            value = getattr(self, name)
            require(value is None or value >= 0, name, value, "must not be negative")
        require(
            self.global_batch_size % self.accumulate_steps == 0,
            "global_batch_size",
            self.global_batch_size,
            f"must be a multiple of --accumulate_steps {self.accumulate_steps}",
        )
        require(0 <= self.seed < 2**32, "seed", self.seed, "must be at least 0 and below 2³²")
        for name, value in vars(self).items():
            small = not isinstance(value, int) or value < 2**32
            require(small, name, value, "must be below 2³²")
        rate = self.learning_rate
        require(
            rate is None or 0 < rate < 1e3, "learning_rate", rate, "must be above 0, below 1000"
        )
        require(self.clip_norm > 0, "clip_norm", self.clip_norm, "must be above 0")
        momentum = self.average_momentum
        rule = "must be above 0 and below 1"
        require(momentum is None or 0 < momentum < 1, "average_momentum", momentum, rule)
        self._check_fine_tuning()
        self.steps_to_profile()
        fraction = self.validation_fraction
        require(
            0 < fraction < 1,
            "validation_fraction",
            fraction,
            "must be between 0 and 1, both excluded",
        )
        if not self.train and (self.validation or self.test):
            raise InputError("--validation and --test need --train as well")

    def _check_fine_tuning(self) -> None:
        decay, frozen, rank = self.layer_decay, self.freeze_layers, self.lora_rank
        fraction, lost = self.warmup_fraction, self.lora_dropout
        rule = "must be at least 0 and below 1"
        require(fraction is None or 0 <= fraction < 1, "warmup_fraction", fraction, rule)
        twice = fraction is not None and self.warmup_steps is not None
        require(not twice, "warmup_fraction", fraction, "and --warmup_steps exclude each other")
        rule = "must be above 0 and at most 1"
        require(decay is None or 0 < decay <= 1, "layer_decay", decay, rule)
        require(frozen is None or frozen >= 0, "freeze_layers", frozen, "must not be negative")
        needs = "freezes what nobody has trained: it needs --pretrained"
        require(frozen is None or bool(self.pretrained), "freeze_layers", frozen, needs)
        require(rank is None or rank >= 1, "lora_rank", rank, "must be at least 1")
        require(rank is None or bool(self.pretrained), "lora_rank", rank, "needs --pretrained")
        both = rank is not None and frozen is not None
        require(not both, "freeze_layers", frozen, "and --lora_rank exclude each other")
        require(self.lora_alpha > 0, "lora_alpha", self.lora_alpha, "must be above 0")
        require(0 <= lost < 1, "lora_dropout", lost, "must be at least 0 and below 1")
        for name in ("lora_alpha", "lora_dropout", "lora_targets"):
            value, default = getattr(self, name), getattr(CommonConfig, name)
            given = " ".join(value) if isinstance(value, tuple) else value
            require(rank is not None or value == default, name, given, "needs --lora_rank")

    def optimizer_options(self) -> OptimizerOptions:
        """What decides the optimizer, the highest learning rate excepted."""
        return {
            "schedule": self.learning_rate_schedule,
            "warmup_steps": self.warmup_steps,
            "warmup_fraction": self.warmup_fraction,
            "weight_decay": self.weight_decay,
            "clip_norm": self.clip_norm,
            "average_momentum": self.average_momentum,
            "layer_decay": self.layer_decay,
        }

    def compile_options(self) -> CompileOptions:
        """What decides the optimizer and the training step, the learning rate excepted."""
        return {
            **self.optimizer_options(),
            "accumulate_steps": self.accumulate_steps,
            "xla": self.xla,
        }

    def device_options(self) -> DeviceOptions:
        """What decides the devices, the number format and the randomness of a run."""
        return {
            "seed": self.seed,
            "precision": self.precision,
            "strategy": self.strategy,
            "global_batch_size": self.global_batch_size,
            "accumulate_steps": self.accumulate_steps,
        }

    def export_options(self) -> ExportOptions:
        """What decides how a bundle is stored."""
        return {"storage": self.storage, "keep": self.keep_versions}

    def adaptation(self) -> Adaptation:
        """How much of a pretrained model is trained."""
        lora: LoraOptions | None = None
        if self.lora_rank is not None:
            lora = {
                "rank": self.lora_rank,
                "alpha": self.lora_alpha,
                "dropout": self.lora_dropout,
                "targets": self.lora_targets or None,
            }
        return {"freeze_layers": self.freeze_layers, "lora": lora}

    def run_options(self) -> RunOptions:
        """What decides how a run is saved, watched and ended."""
        return {
            "patience": self.early_stopping_patience,
            "keep": self.keep_checkpoints,
            "checkpoint_minutes": self.checkpoint_minutes,
            "checkpoint_steps": self.checkpoint_steps,
            "profiled_steps": self.steps_to_profile(),
            "hyperparameters": dataclasses.asdict(self),
        }

    def steps_to_profile(self) -> tuple[int, int] | None:
        """First and last step of `profile_steps`, counted from 1.

        Raises:
            InputError: if it is not of the form 100-110.
        """
        if self.profile_steps is None:
            return None
        found = re.fullmatch(r"(\d+)-(\d+)", self.profile_steps)
        holds = found is not None and 1 <= int(found[1]) <= int(found[2])
        rule = "must look like 100-110, counted from 1"
        require(holds, "profile_steps", self.profile_steps, rule)
        assert found is not None
        return int(found[1]), int(found[2])

    def passes(self) -> int:
        """Passes over the training data, given or by default."""
        return self.epochs or 1

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        steps = self.passes() * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)


def require(holds: bool, name: str, value: Any, rule: str) -> None:
    """Refuse a flag's value unless a rule holds.

    Raises:
        InputError: naming flag, rule and value.
    """
    if not holds:
        raise InputError(f"--{name} {rule}. Received: {value}")
