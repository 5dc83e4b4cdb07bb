r"""Say what a run would take before it starts: memory by part, time, the largest batch.

    python recipes/plan_run.py --train 'books/*.txt' --num_layers 6 --hidden_dim 384 --num_heads 6
    python recipes/plan_run.py --pretrained bert-base-uncased --train dev.tsv --text sentence
    python recipes/plan_run.py --pretrained models/ --memory_gib 8 --hours 2 --json

One model is planned in detail; several, or a folder that holds several, are ranked for a budget of
memory and time. Without --pretrained the model is one from scratch, and there is advice on how
large it should be. Nothing is trained and nothing is written.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tfllm import cli, data, planning, text
from tfllm.data import tasks
from tfllm.data.text_files import read_documents
from tfllm.errors import InputError
from tfllm.models import checkpoint_files
from tfllm.models.sizes import check_sizes

_GIB = 1 << 30
_LANGUAGE_MODELS = ("causal_lm", "masked_lm")
_SCRATCH = "from scratch"
_OF_SCRATCH = (
    *("family", "tokenizer", "vocabulary_size", "num_layers", "num_heads", "hidden_dim"),
    "dropout",
)
_AT_LEAST_1 = (
    *("labels", "vocabulary_size", "sequence_length", "global_batch_size", "accumulate_steps"),
    *("epochs", "max_steps", "lora_rank", "devices", "sample"),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of this recipe."""

    pretrained: tuple[str, ...] = ()
    """transformers folders, folders of such folders, or names on the hub; several are ranked."""
    family: Literal["gpt2", "bert"] = "gpt2"
    """What a model from scratch is."""
    task: planning.Task | None = None
    """What is trained. Default: causal_lm for GPT-2, masked_lm for a BERT from scratch, else
    text_classifier."""
    labels: int = 2
    """Classes of a classifier."""
    train: tuple[str, ...] = ()
    """Training data: paths, or globs in quotes. Default: what recipes train on without flags."""
    text: str | None = None
    """Column, key or feature of the text, where --train holds tables; plain text without it."""
    documents: data.DocumentUnit | None = None
    """What one text of plain text is. Default: a file for language models, else a line."""
    tokenizer: str | None = None
    """Folder or name of a vocabulary for a model from scratch. Default: one is trained."""
    vocabulary_size: int = 2048
    """Words of the vocabulary that is trained for a model from scratch."""
    num_layers: int = 3
    """Blocks of a model from scratch."""
    num_heads: int = 4
    """Attention heads of each block, from scratch."""
    hidden_dim: int = 128
    """Width of a model from scratch, a multiple of --num_heads."""
    dropout: float = 0.0
    """Share of activations that training zeroes, from scratch; at least 0 and below 1."""
    sequence_length: int = 128
    """Tokens of a row, at most."""
    global_batch_size: int = 32
    """Rows of one optimizer step, over all devices and micro-batches."""
    accumulate_steps: int = 1
    """Micro-batches that each device cuts its rows into, to save memory."""
    epochs: int = 1
    """Passes over the training data."""
    max_steps: int | None = None
    """Stop after so many optimizer steps."""
    freeze_layers: int | None = None
    """Leave embeddings and so many of the lowest blocks as they are."""
    lora_rank: int | None = None
    """Train low-rank adapters of this rank, and the head."""
    devices: int = 1
    """Devices that share the rows, each like this machine's."""
    memory_gib: float | None = None
    """Memory of one device in GiB. Default: what is free on this machine or in its container."""
    hours: float | None = None
    """Time that training may take."""
    peak_gflops: float | None = None
    """Float32 matrix products of a device, in 10⁹ operations a second. Default: measured now."""
    sample: int = 1000
    """Texts that are tokenized to count tokens; all of them where there are no more."""
    seed: int = 0
    """Decides which texts these are."""
    json: bool = False
    """Print one JSON object and nothing else."""


class Model(NamedTuple):
    """One to plan a run of: its name, its sizes and how it cuts texts into tokens."""

    name: str
    sizes: planning.ModelSizes
    lengths_of: Callable[[Sequence[str]], list[int]]


def main(config: Config) -> None:
    """A model and data in, a table out."""
    # 1. Flags, and models by their config.json
    check(config)
    memory = int(config.memory_gib * _GIB) if config.memory_gib else planning.free_memory()
    sources, left_out = find_models(config)
    task = config.task or default_task(config, list(sources.values()))
    for name in list(sources):
        micro_batch(config, sources[name], task).check(name)

    # 2. Texts: one pass over all of them, some of which are kept to be tokenized
    is_language_model = task in _LANGUAGE_MODELS
    sample = planning.draw_sample(
        read_texts(config, is_language_model), config.sample, seed=config.seed
    )
    cli.require(sample.rows > 0, "train", " ".join(config.train), "holds no text")
    found = (
        [with_tokenizer(name, sizes, task) for name, sizes in sources.items()]
        if config.pretrained
        else [from_scratch(config, sample, task)]
    )

    # 3. Each model's tokens, and what the machine does at its sizes
    counts, plans, speeds = {}, {}, {}
    for model in found:
        plan = micro_batch(config, model.sizes, task)
        counts[model.name] = planning.count_tokens(
            sample, model.lengths_of, row_tokens=config.sequence_length
        )
        speeds[model.name] = speed_of(config, plan)
        work = workload(config, counts[model.name], is_language_model)
        plans[model.name] = planning.plan_run(plan, work, speeds[model.name], memory)

    # 4. What fits, and how large a model from scratch should be
    seconds = config.hours and config.hours * 3600
    ranked = planning.rank_models(plans, memory=memory, seconds=seconds)
    record: dict[str, Any] = {
        "config": dataclasses.asdict(config),
        "task": task,
        "memory_budget_bytes": memory,
        "models": [
            {
                "name": name,
                "within_budget": fits,
                "data": counts[name]._asdict(),
                "speed": speeds[name]._asdict(),
                **plan.numbers(),
            }
            for name, plan, fits in ranked
        ],
        "left_out": left_out,
    }
    if not config.pretrained and is_language_model:
        record["compute_optimal"] = advice(plans[_SCRATCH], counts[_SCRATCH], config)
    if config.json:
        print(json.dumps(record))
        return

    # 5. Tables
    for line in report(ranked, counts, speeds, memory, record):
        print(line)


def check(config: Config) -> None:
    """Refuse what makes no sense, before anything is read."""
    for name in _AT_LEAST_1:
        value = getattr(config, name)
        cli.require(value is None or value >= 1, name, value, "must be at least 1")
    for name in ("memory_gib", "hours", "peak_gflops"):
        value = getattr(config, name)
        good = value is None or 0 < value < 1e12
        cli.require(good, name, value, "must be above 0 and below 1e12")
    for name in ("text", "tokenizer"):
        cli.require(getattr(config, name) != "", name, "''", "must not be empty")
    cli.require("" not in config.pretrained, "pretrained", "''", "must not be empty")
    tables = config.text is not None
    rule = "is for plain text, and --text is for tables"
    cli.require(not tables or config.documents is None, "documents", config.documents, rule)
    for name in _OF_SCRATCH:
        value, default = getattr(config, name), getattr(Config, name)
        rule = "is for a model from scratch, and --pretrained brings its own"
        cli.require(not config.pretrained or value == default, name, value, rule)
    check_sizes(config.num_layers, config.num_heads, config.hidden_dim, config.dropout)
    parts, rows = config.devices * config.accumulate_steps, config.global_batch_size
    rule = f"must be a multiple of --devices times --accumulate_steps, {parts}"
    cli.require(rows % parts == 0, "global_batch_size", rows, rule)
    adapts = config.freeze_layers is not None or config.lora_rank is not None
    rule = "is for --pretrained, and a model from scratch trains as a whole"
    given = config.lora_rank if config.freeze_layers is None else config.freeze_layers
    name = "lora_rank" if config.freeze_layers is None else "freeze_layers"
    cli.require(bool(config.pretrained) or not adapts, name, given, rule)


def find_models(config: Config) -> tuple[dict[str, planning.ModelSizes], dict[str, str]]:
    """Read the models' sizes; those of a folder that can't be planned are left out, with why."""
    sizes: dict[str, planning.ModelSizes] = {}
    left_out: dict[str, str] = {}
    for name in config.pretrained:
        path = Path(name)
        is_folder = os.path.isdir(name) and not (path / "config.json").is_file()
        inside = sorted(path.glob("*/config.json")) if is_folder else []
        for folder in [str(file.parent) for file in inside] or [name]:
            try:
                sizes[folder] = read_sizes(folder)
            except InputError as error:
                if not inside:
                    raise
                left_out[folder] = str(error)
    if config.pretrained and not sizes:
        raise InputError(f"no model can be planned: {next(iter(left_out.values()))}")
    if not config.pretrained:
        sizes[_SCRATCH] = scratch_sizes(config, config.vocabulary_size)
    return sizes, left_out


def read_sizes(source: str) -> planning.ModelSizes:
    """Read a config.json."""
    path = checkpoint_files.find(source, "config.json")
    if path is None:
        raise InputError(f"{source} holds no config.json. Give a transformers folder, or a name")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error
    return planning.ModelSizes.from_config(found if isinstance(found, dict) else {}, source)


def scratch_sizes(config: Config, words: int) -> planning.ModelSizes:
    """Give a model from scratch the sizes that the recipes would give it."""
    length = config.sequence_length
    common: dict[str, Any] = {"model_type": config.family, "vocab_size": words}
    common |= {"n_positions": length, "max_position_embeddings": length}
    layers, heads, width = config.num_layers, config.num_heads, config.hidden_dim
    if config.family == "gpt2":
        own: dict[str, Any] = {"n_layer": layers, "n_head": heads, "n_embd": width}
        rates: tuple[str, ...] = ("resid_pdrop", "attn_pdrop")
    else:
        own = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": width}
        own["intermediate_size"] = 4 * width
        rates = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    own |= dict.fromkeys(rates, config.dropout)
    return planning.ModelSizes.from_config(common | own, "a model from scratch")


def default_task(config: Config, sizes: Sequence[planning.ModelSizes]) -> planning.Task:
    """Choose what all the models can do."""
    if all(one.family == "gpt2" for one in sizes):
        return "causal_lm"
    return "text_classifier" if config.pretrained else "masked_lm"


def micro_batch(
    config: Config, sizes: planning.ModelSizes, task: planning.Task
) -> planning.TrainingPlan:
    """Say what a device does at once."""
    return planning.TrainingPlan(
        sizes,
        task,
        rows=config.global_batch_size // (config.devices * config.accumulate_steps),
        tokens=config.sequence_length,
        labels=config.labels,
        accumulate_steps=config.accumulate_steps,
        freeze_layers=config.freeze_layers,
        lora_rank=config.lora_rank,
        is_loaded=bool(config.pretrained),
    )


def read_texts(config: Config, is_language_model: bool) -> Iterator[str]:
    """Read the training texts, long documents of language models in pieces."""
    if config.text is not None or not (config.train or is_language_model):
        fields = tasks.text_fields(text=config.text or "text", label=None)
        texts: Iterable[str] = (
            example["text"] for example in tasks.read_examples(config.train, fields=fields).train
        )
    elif not config.train:
        texts = data.read_corpus(()).train
    else:
        unit = config.documents or ("file" if is_language_model else "line")
        texts = read_documents(data.find_files(config.train, "--train"), unit)
    yield from planning.cut_texts(texts) if is_language_model else texts


def with_tokenizer(name: str, sizes: planning.ModelSizes, task: planning.Task) -> Model:
    """Find a model's own tokenizer; where tokenizer.json is, TensorFlow is not needed for it."""
    path = checkpoint_files.find(name, "tokenizer.json")
    if path is None:
        return Model(name, sizes, lengths_by(text.load(name).fast, task))
    import tokenizers

    try:
        fast = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises no narrower type
        raise InputError(f"{path} can't be read as a tokenizer: {error}") from error
    return Model(name, sizes, lengths_by(fast, task))


def from_scratch(config: Config, sample: planning.Sample, task: planning.Task) -> Model:
    """Give a model from scratch a vocabulary: one that is there, or trained on the sample."""
    if config.tokenizer:
        tokenizer = text.load(config.tokenizer)
    elif config.family == "gpt2":
        tokenizer = text.train_byte_level_bpe(sample.texts, config.vocabulary_size)
    else:
        tokenizer = text.train_wordpiece(sample.texts, config.vocabulary_size)
    sizes = scratch_sizes(config, tokenizer.vocabulary_size)
    return Model(_SCRATCH, sizes, lengths_by(tokenizer.fast, task))


def lengths_by(fast: Any, task: planning.Task) -> Callable[[Sequence[str]], list[int]]:
    """Count tokens as training does: rows of a task have special tokens."""
    fast.no_truncation()
    fast.no_padding()
    special = task not in _LANGUAGE_MODELS
    return lambda texts: [
        len(found.ids) for found in fast.encode_batch(list(texts), add_special_tokens=special)
    ]


def speed_of(config: Config, plan: planning.TrainingPlan) -> planning.DeviceSpeed:
    """Take the peak as given, or measure it with what training uses."""
    if config.peak_gflops is not None:
        return planning.DeviceSpeed.from_peak(1e9 * config.peak_gflops)
    sizes = plan.sizes
    return planning.SpeedMeter(plan.positions, sizes.hidden_dim, sizes.inner_dim).measure()


def workload(
    config: Config, count: planning.TokenCount, is_language_model: bool
) -> planning.Workload:
    """Say how many rows there are: blocks of a stream, or texts that are cut off."""
    length = config.sequence_length
    rows = max(1, int(count.tokens // length)) if is_language_model else count.rows
    return planning.Workload(
        rows=rows,
        row_tokens=length if is_language_model else count.row_tokens,
        epochs=config.epochs,
        max_steps=config.max_steps,
        global_batch_size=config.global_batch_size,
        devices=config.devices,
    )


def advice(plan: planning.RunPlan, count: planning.TokenCount, config: Config) -> dict[str, Any]:
    """Say what Hoffmann et al. would train with the same operations."""
    budget = plan.step_operations * plan.total_steps
    if config.hours is not None:
        budget = plan.step_operations / plan.step_seconds * config.hours * 3600
    rule, law = planning.compute_optimum(budget)
    parameters = plan.plan.parameters.total
    return {
        "operations": budget,
        "tokens_for_these_parameters": planning.TOKENS_PER_PARAMETER * parameters,
        "tokens_of_this_run": plan.total_steps * config.global_batch_size * config.sequence_length,
        "tokens_of_the_data": count.tokens,
        "twenty_tokens_a_parameter": rule._asdict(),
        "parametric_law": law._asdict(),
        "constants": dict(planning.LAW),
    }


def report(
    ranked: Sequence[tuple[str, planning.RunPlan, bool]],
    counts: dict[str, planning.TokenCount],
    speeds: dict[str, planning.DeviceSpeed],
    memory: int,
    record: dict[str, Any],
) -> Iterator[str]:
    """Write what a person reads."""
    name, plan, _ = ranked[0]
    count, speed = counts[name], speeds[name]
    error = f" ± {count.standard_error:,.0f}" if count.standard_error else ""
    yield (
        f"{count.tokens:,.0f}{error} tokens in {count.rows:,} texts, {count.counted:,} of them "
        f"counted with the tokenizer of {name}."
    )
    yield (
        f"{speed.flops / 1e9:,.1f} GFLOP/s in float32 products, "
        f"{speed.bytes_per_second / 1e9:,.1f} GB/s in passes over memory; "
        f"{memory / _GIB:.2f} GiB may be used."
    )
    if len(ranked) > 1:
        yield planning.format_ranking(ranked)
    else:
        yield planning.format_plan(plan)
        if not plan.fits:
            yield (
                f"The batch does not fit. Give --accumulate_steps {plan.suggested_steps}, or at "
                f"most {plan.largest_rows:,} rows to a device."
            )
    for folder, why in record["left_out"].items():
        yield f"Left out: {folder}: {why}"
    if "compute_optimal" in record:
        yield from planning.format_advice(record["compute_optimal"])


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
