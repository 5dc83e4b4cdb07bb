r"""Fine-tune one backbone for several tasks at once, and export it for TF Serving as one bundle.

    python recipes/finetune_multitask.py
    python recipes/finetune_multitask.py --tasks tasks.toml --pretrained bert-base-uncased

    [[task]]                        # tasks.toml; paths are from its folder
    name = "sentiment"
    kind = "single_label"           # or multi_label, regression: text, text_pair, label, columns
    train = "sst2/train.tsv"
    validation = "sst2/dev.tsv"
    text = "sentence"

    [[task]]
    name = "names"
    kind = "entities"               # or tags: crf, scheme, token_column, tag_column, tokens, tags
    train = "conll/eng.train"
    scheme = "iob1"
    crf = true

    [[task]]
    name = "answers"                # max_question_tokens, max_answer_tokens, overlap
    kind = "answers"
    train = "squad/train-v1.1.json"
    weight = 2                      # with --mixing weights
    freeze_backbone = true          # this task trains what is above the blocks alone

Without flags the tasks are three on sentences that tfllm brings: classes, entities, answers; the
model is a small BERT from scratch.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from tfllm import cli, data, export, metrics, models, serving, text, training
from tfllm.data import readers, tasks
from tfllm.errors import InputError

Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Config(cli.FineTuningConfig):
    """Flags of this recipe."""

    tasks: str | None = None
    """TOML file that lists the tasks. Without it, three on sentences that tfllm brings."""
    mixing: Literal["proportional", "temperature", "weights"] = "proportional"
    """Whose turn a step is: in proportion to the tasks' examples; evened out by --temperature; or
    by the weights that --tasks gives."""
    temperature: float = 2.0
    """With --mixing temperature: examples count by their number to the power of 1/temperature."""
    lora_by_task: bool = False
    """With --lora_rank: each task has adapters of its own, on the one backbone, which stays as it
    is; without, all share theirs."""
    best_metric: str = "mean"
    """What of the validation says which weights are kept: mean, over the tasks' main metrics; loss;
    or one of a task, such as sentiment/accuracy."""

    def check(self) -> None:
        """Refuse what can't be trained, before TensorFlow is imported."""
        for name in ("train", "validation", "test"):
            files = getattr(self, name)
            cli.require(not files, name, " ".join(files), "is for one task: name files in --tasks")
        super().check()
        cli.require(not self.new_head, "new_head", True, "is nothing to ask for: all heads are new")
        heat, evens = self.temperature, self.mixing == "temperature"
        cli.require(heat >= 1, "temperature", heat, "must be at least 1")
        unused = evens or heat == Config.temperature
        cli.require(unused, "temperature", heat, "needs --mixing temperature")
        by_task = self.lora_rank is not None or not self.lora_by_task
        cli.require(by_task, "lora_by_task", True, "needs --lora_rank")
        given = self.mixing != "weights" or self.tasks is not None
        cli.require(given, "mixing", self.mixing, "needs --tasks, which gives the weights")


def main(config: Config, run: cli.Run) -> None:
    """Examples of several tasks in, one SavedModel out."""
    # 1. Tasks and their examples. What can be refused is refused before TensorFlow is imported.
    run.say(f"Reading {config.tasks or 'the sentences that tfllm brings'} …")
    specs = tasks.read_task_file(config.tasks) if config.tasks else tasks.showcase_tasks()
    rule = "lists none but tasks with freeze_backbone. See --freeze_layers"
    cli.require(not all(spec.freeze_backbone for spec in specs), "tasks", config.tasks, rule)
    if config.mixing != "weights" and any(spec.weight != 1 for spec in specs):
        run.say("The tasks' weights count with --mixing weights alone.")
    todo = {spec.name: KINDS[type(spec)](spec, config) for spec in specs}
    known = ["mean", "loss", *(f"{n}/{m}" for n, task in todo.items() for m in task.metrics)]
    rule = f"must be one of {', '.join(known)}"
    cli.require(config.best_metric in known, "best_metric", config.best_metric, rule)
    bundle_name = config.export_name or "-".join(todo)[:100]
    export.check_name(bundle_name)

    # 2. Seed and devices
    run.say("Starting TensorFlow …")
    from tfllm import optimization

    strategy = training.set_up(**config.device_options())

    # 3. Vocabulary and model
    source = config.pretrained or config.tokenizer
    texts = (line for task in todo.values() for line in task.spec.texts(task.parts.train))
    tokenizer = text.load(source) if source else text.train_wordpiece(texts, config.vocabulary_size)
    with strategy.scope():
        model = create_model(config, tokenizer, todo, run)
    preprocess = text.Preprocessor(tokenizer, sequence_length=config.sequence_length)
    # Refuses what can't be served, before training.
    signatures(model, preprocess, todo)
    run.say(f"Model: {model.config.model_type}, {model.count_params():,} parameters.")

    # 4. Data: tokenized once; each step's batch is of one task, of rows of like length
    fast = data.FastTokenizer.of(tokenizer)
    train = {name: task.rows(task.parts.train, fast, config.seed) for name, task in todo.items()}
    held_out = {name: task.rows(task.parts.validation, fast) for name, task in todo.items()}
    batches = data.MultiTaskBatches(train, mixture(config, todo, train))
    for (name, rows), steps in zip(train.items(), batches.plan.counts, strict=True):
        counts = rows.store.manifest.counts
        run.metrics |= {f"train_{name}/{what}": count for what, count in counts.items()}
        size = f"{len(rows.store):,} rows, {steps:,} steps an epoch"
        run.say(f"{name}: {todo[name].described}, {size}.")
    total_steps = config.total_steps(batches.steps_per_epoch)
    optimization.compile_model(
        model,
        config.peak_learning_rate(),
        total_steps=total_steps,
        beta_2=0.999,
        **config.compile_options(),
    )
    best_weights = optimization.weights_to_measure(model)
    notes = "\n".join(f"- `{name}`: {task.described}" for name, task in todo.items())
    card = export.Card("several tasks, each a signature", metrics=run.metrics, notes=notes)
    if config.dry_run:
        ids = batches.batch(0)[0]["input_ids"][0]
        run.try_out(
            tokenizer.fast.decode(ids, skip_special_tokens=False),
            functools.partial(publish, config, model, preprocess, todo, card, bundle_name),
            lambda: training.estimate(model, batches.dataset).text(total_steps),
        )
        return

    # 5. Fit; each epoch is measured and drawn; the model ends with its best weights
    def report(rows: Mapping[str, data.RowBatches], part: str) -> training.MultiTaskReport:
        return training.MultiTaskReport(
            model,
            {n: todo[n].report(model.tasks[n], rows[n], part, run.directory) for n in rows},
            {name: todo[name].main for name in rows},
            run.directory / "tensorboard",
            measured_within=best_weights,
        )

    higher = training.BestMetric.named(config.best_metric.rpartition("/")[2]).higher_is_better
    with run.timed("train"):
        trained = training.train_task(
            model,
            batches,
            report(held_out, "validation"),
            run_dir=run.open(),
            total_steps=total_steps,
            best_metric=training.BestMetric(config.best_metric, higher),
            identity=identity(config, todo),
            **config.run_options(),
        )
    run.add(trained)
    if run.is_chief:
        with best_weights():
            tuned = [task.tune(model.tasks[n], held_out[n]) for n, task in todo.items()]
        if any(tuned):
            run.metrics |= report(held_out, "validation").evaluate()
    tested = {n: task.rows(task.parts.test, fast) for n, task in todo.items() if task.parts.test}
    if tested:
        measured = report(tested, "test").evaluate()
        run.metrics |= {f"test_{name}": value for name, value in measured.items()}
    if not run.is_chief:
        return

    # 6. Export, and try the bundle in a fresh process
    run.say("Exporting: the bundle is loaded back in a fresh process and compared …")
    with run.timed("export"), best_weights():
        models.save_trained(model, run.directory, tokenizer, adapters=bool(config.lora_rank))
        bundle = publish(config, model, preprocess, todo, card, bundle_name, config.export_dir)
    run.export = str(bundle)
    shown = {name: next(iter(task.parts.validation)) for name, task in todo.items()}
    asked = {name: task.spec.instance(shown[name]) for name, task in todo.items()}
    for name, task in todo.items():
        truth = task.spec.truth(shown[name])
        run.say(f"\n{serving.answers_text(bundle, [asked[name]], [truth], name)}")
    instance = next(iter(asked.values()))
    run.say(f"\n{serving.next_commands_text(bundle, run.directory / 'tensorboard', instance)}\n")


class Task(ABC):
    """One of the tasks: its examples, its head, how it is measured and served.

    Attributes:
        heads: attributes of the model that train beside adapters.
        needs_pooler: whether the head is put on the backbone's pooler.
        metrics: what may decide which weights are kept, the main one first.
        whole: what stands for all right in the main one.
    """

    heads: tuple[str, ...]
    needs_pooler: ClassVar[bool] = False
    metrics: tuple[str, ...]
    whole: ClassVar[float] = 1.0

    def __init__(self, spec: Any, config: Config) -> None:
        """Open the examples and name the labels."""
        self.spec = spec
        self.config = config
        self.parts = spec.read(
            validation_fraction=config.validation_fraction, on_error=config.on_error
        )
        self.labels = spec.labels(self.parts)

    @property
    def main(self) -> training.MainMetric:
        """The metric that counts in the mean over tasks."""
        return training.MainMetric(self.metrics[0], self.whole)

    @property
    def described(self) -> str:
        """Say what it is: the kind, and the labels."""
        labels = f" ({', '.join(label[:40] for label in self.labels[:20])})" if self.labels else ""
        frozen = ", its head alone" if self.spec.freeze_backbone else ""
        return f"{self.spec.kind}{labels}{frozen}"

    def rows(
        self, examples: readers.Reader, tokenizer: data.FastTokenizer, seed: int | None = None
    ) -> data.RowBatches:
        """Tokenize and batch examples; shuffled with a seed."""
        encoder = self.spec.encoder(tokenizer, self.config.sequence_length, self.labels)
        return data.task_batches(examples, encoder, self.config.global_batch_size, seed)

    @abstractmethod
    def new_model(self, backbone: Any) -> Any:
        """Put a new head on the backbone."""

    @abstractmethod
    def report(
        self, model: Any, rows: data.RowBatches, part: str, folder: Path
    ) -> training.TaskReport:
        """Make what measures, draws and writes a part of the examples."""

    def tune(self, model: Any, rows: data.RowBatches) -> bool:
        """Set on the validation what is not learnt; return whether anything was."""
        return False

    def options(self) -> dict[str, Any]:
        """Say how the signature reads its texts."""
        return {}

    def probes(self, model: Any) -> dict[str, Any]:
        """Give example requests for the signature, where it takes more than one text."""
        return model.probes().get("serving_default", {})

    def examples_of(self, part: str) -> readers.Reader:
        """The examples of validation or test."""
        return self.parts.validation if part == "validation" else self.parts.test

    def task_report(
        self,
        model: Any,
        rows: data.RowBatches,
        part: str,
        folder: Path,
        measure: Callable[[Outputs], Mapping[str, float]],
        **parts: Any,
    ) -> training.TaskReport:
        """Make a report whose predictions go to `<part>_predictions/<task>.jsonl`."""
        path = folder / f"{part}_predictions" / f"{self.spec.name}.jsonl"
        return training.TaskReport(
            model, rows, measure, folder / "tensorboard", predictions_path=path, **parts
        )


class TextTask(Task):
    """Classes, several of them, or a number."""

    heads = ("head",)
    needs_pooler = True

    def __init__(self, spec: tasks.TextSpec, config: Config) -> None:
        """Choose the metrics of the kind."""
        super().__init__(spec, config)
        self.metrics = {
            "single_label": ("accuracy", "macro_f1", "micro_f1", "matthews", "loss"),
            "multi_label": ("micro_f1", "macro_f1", "subset_accuracy", "loss"),
            "regression": ("spearman", "pearson", "mean_squared_error", "loss"),
        }[spec.kind]

    def new_model(self, backbone: Any) -> models.TextClassifier:
        """Put a classifier on the backbone."""
        return models.TextClassifier(
            backbone, labels=self.labels, kind=self.spec.kind, seed=self.config.seed
        )

    def report(
        self, model: Any, rows: data.RowBatches, part: str, folder: Path
    ) -> training.TaskReport:
        """Measure, draw and write as the recipe for one such task does."""
        kind, thresholds = self.spec.kind, tuple(model.thresholds)
        measure = functools.partial(
            metrics.text_classifier,
            kind,
            labels=self.labels,
            thresholds=thresholds,
            lengths=rows.store.lengths("input_ids"),
        )
        figures = functools.partial(training.classifier_figures, kind, self.labels)
        examples = self.examples_of(part)
        lines = functools.partial(
            training.classifier_lines, kind, self.labels, thresholds, examples
        )
        return self.task_report(model, rows, part, folder, measure, figures=figures, lines=lines)

    def tune(self, model: Any, rows: data.RowBatches) -> bool:
        """Choose the thresholds of several labels."""
        if self.spec.kind != "multi_label":
            return False
        found = training.predict_rows(model, rows).outputs
        model.thresholds = list(metrics.best_thresholds(found["targets"], found["scores"]))
        return True

    def options(self) -> dict[str, Any]:
        """Say whether there are two texts."""
        return {"pair": self.spec.text_pair is not None}

    def probes(self, model: Any) -> dict[str, Any]:
        """Give pairs, where there are two texts."""
        return model.probes(**self.options()).get("serving_default", {})


class TagTask(Task):
    """Tags of words."""

    def __init__(self, spec: tasks.TagSpec, config: Config) -> None:
        """Choose the metrics of the kind."""
        super().__init__(spec, config)
        spans = ("f1", "precision", "recall", "loss")
        single = ("accuracy", "sentence_accuracy", "macro_f1", "loss")
        self.metrics = spans if spec.spans else single
        self.heads = ("classifier", "crf") if spec.crf else ("classifier",)

    def new_model(self, backbone: Any) -> models.TokenClassifier:
        """Put a tagger on the backbone."""
        return models.TokenClassifier(
            backbone,
            labels=self.labels,
            crf=self.spec.crf,
            scheme="iob2" if self.spec.spans else None,
            seed=self.config.seed,
        )

    def report(
        self, model: Any, rows: data.RowBatches, part: str, folder: Path
    ) -> training.TaskReport:
        """Measure, draw and write as the recipe for one such task does."""
        examples = self.examples_of(part)
        true = [example["tags"] for example in examples]
        measure = metrics.entities if self.spec.spans else metrics.tagging
        confusion = training.entity_confusion if self.spec.spans else training.tag_confusion
        windows = np.asarray(rows.store.values("window"))

        def joined(outputs: Outputs, name: str) -> list[np.ndarray]:
            return training.join_words(list(outputs[name]), list(outputs["weights"]), windows)

        def tagged(outputs: Outputs) -> list[list[str]]:
            return [[self.labels[tag] for tag in tags] for tags in joined(outputs, "tags")]

        return self.task_report(
            model,
            rows,
            part,
            folder,
            lambda outputs: measure(true, tagged(outputs)),
            figures=lambda outputs: {"confusion": confusion(true, tagged(outputs))},
            lines=lambda outputs: training.tag_lines(
                examples, tagged(outputs), [list(row) for row in joined(outputs, "scores")]
            ),
        )

    def options(self) -> dict[str, Any]:
        """Say what windows share."""
        return {"overlap": self.spec.overlap_of(self.config.sequence_length)}


class AnswerTask(Task):
    """Answers in texts."""

    heads = ("qa_outputs",)
    metrics = ("f1", "exact_match", "loss")
    whole = 100.0

    def new_model(self, backbone: Any) -> models.QuestionAnswerer:
        """Put a reader on the backbone."""
        return models.QuestionAnswerer(
            backbone, max_answer_tokens=self.spec.max_answer_tokens, seed=self.config.seed
        )

    def report(
        self, model: Any, rows: data.RowBatches, part: str, folder: Path
    ) -> training.TaskReport:
        """Measure and write as the recipe for one such task does."""
        examples = self.examples_of(part)
        references = {str(number): e["answers"] for number, e in enumerate(examples)}

        def answer(outputs: Outputs) -> tuple[dict[str, str], training.BestAnswers]:
            answers, margins, found = best_answers(rows.store, examples, outputs)
            threshold = model.no_answer_threshold
            return metrics.answers_or_none(answers, references, margins, threshold), found

        def lines(outputs: Outputs) -> Iterator[dict[str, Any]]:
            said, found = answer(outputs)
            for example, answered, score, margin in zip(
                examples, said.values(), found.scores, found.margins, strict=True
            ):
                yield example | {"predicted": answered, "score": score, "no_answer_margin": margin}

        def measure(outputs: Outputs) -> dict[str, float]:
            return metrics.answers(answer(outputs)[0], references)

        return self.task_report(model, rows, part, folder, measure, lines=lines)

    def tune(self, model: Any, rows: data.RowBatches) -> bool:
        """Choose from which margin on no answer is given, where some questions have none."""
        examples = self.parts.validation
        references = {str(number): e["answers"] for number, e in enumerate(examples)}
        if all(references.values()):
            return False
        outputs = training.predict_rows(model, rows).outputs
        answers, margins, _ = best_answers(rows.store, examples, outputs)
        model.no_answer_threshold = metrics.best_no_answer_threshold(answers, references, margins)
        return True

    def options(self) -> dict[str, Any]:
        """Say how long questions are, and what windows share."""
        overlap = self.spec.overlap_of(self.config.sequence_length)
        return {"overlap": overlap, "max_question_tokens": self.spec.max_question_tokens}


KINDS: dict[type[tasks.TaskSpec], type[Any]] = {
    tasks.TextSpec: TextTask,
    tasks.TagSpec: TagTask,
    tasks.AnswerSpec: AnswerTask,
}


def best_answers(
    store: data.ArrayStore, examples: readers.Reader, outputs: Outputs
) -> tuple[dict[str, str], dict[str, float], training.BestAnswers]:
    """Give the best answer to each question and how much surer none is, by its number."""
    found = training.best_answers(store, (example["context"] for example in examples), outputs)
    answers = {str(number): answer for number, answer in enumerate(found.texts)}
    margins = {str(number): float(margin) for number, margin in enumerate(found.margins)}
    return answers, margins, found


def create_model(
    config: Config, tokenizer: text.Tokenizer, todo: Mapping[str, Task], run: cli.Run
) -> models.MultiTaskModel:
    """Load or create the backbone, put all heads on it, and freeze what is not to be trained."""
    from tfllm.models import backbones

    if config.pretrained:
        backbone = backbones.load_backbone(config.pretrained, pickle=config.allow_pickle)
    else:
        sizes = models.small_bert_config(
            tokenizer, positions=config.sequence_length, **config.sizes()
        )
        backbone = backbones.create_backbone(sizes)
    # Those that need the pooler come first, since the others take off what nobody needs.
    order = sorted(todo, key=lambda name: not todo[name].needs_pooler)
    heads = {name: todo[name].new_model(backbone) for name in order}
    frozen = [name for name, task in todo.items() if task.spec.freeze_backbone]
    model = models.MultiTaskModel(
        {name: heads[name] for name in todo}, frozen=frozen, seed=config.seed
    )
    trained = [f"{name}/{head}" for name, task in todo.items() for head in task.heads]
    changes = models.adapt(model, heads=trained, by_task=config.lora_by_task, **config.adaptation())
    if changes:
        run.say(changes)
    return model


def identity(config: Config, todo: Mapping[str, Task]) -> dict[str, str]:
    """Say what of the tasks must be the same when a run goes on."""
    heads = {n: (t.spec.kind, t.heads, t.spec.freeze_backbone) for n, t in todo.items()}
    return {"tasks": str(heads), "--lora_by_task": str(config.lora_by_task)}


def mixture(
    config: Config, todo: Mapping[str, Task], train: Mapping[str, data.RowBatches]
) -> data.MixturePlan:
    """Deal an epoch's steps, as many as one pass over each task takes, to the tasks."""
    steps = {name: rows.steps_per_epoch for name, rows in train.items()}
    shares: dict[str, float] = {**steps}
    if config.mixing == "temperature":
        shares = data.task_shares(steps, config.temperature)
    elif config.mixing == "weights":
        shares = {name: task.spec.weight for name, task in todo.items()}
    try:
        return data.MixturePlan([*shares.values()], window=sum(steps.values()), seed=config.seed)
    except InputError as error:
        raise InputError(f"--mixing {config.mixing}: {error}") from error


def signatures(
    model: models.MultiTaskModel, preprocess: text.Preprocessor, todo: Mapping[str, Task]
) -> dict[str, Any]:
    """Give a function for each task."""
    functions = {}
    for name, task in todo.items():
        with task.spec.named_in_errors():
            functions[name] = model.tasks[name].signatures(preprocess, **task.options())
    return model.signatures(functions)


def publish(
    config: Config,
    model: models.MultiTaskModel,
    preprocess: text.Preprocessor,
    todo: Mapping[str, Task],
    card: export.Card,
    name: str,
    folder: str,
) -> Path:
    """Export the model, proven, as the next version of a bundle."""
    asked = {task_name: task.probes(model.tasks[task_name]) for task_name, task in todo.items()}
    asked["serving_default"] = next(iter(asked.values()))
    return export.export_bundle(
        signatures(model, preprocess, todo),
        folder,
        name,
        modules=[model, preprocess],
        probes={signature: probes for signature, probes in asked.items() if probes},
        card=card,
        **config.export_options(),
    )


if __name__ == "__main__":
    cli.main(Config, main, __file__)
