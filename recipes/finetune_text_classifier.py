r"""Fine-tune a classifier of texts, or of pairs of texts, and export it for TF Serving.

    python recipes/finetune_text_classifier.py
    python recipes/finetune_text_classifier.py --pretrained bert-base-uncased \
        --train train.tsv --validation dev.tsv --text sentence
    python recipes/finetune_text_classifier.py --pretrained bert-base-uncased \
        --train tfds:glue/stsb --text sentence1 --text_pair sentence2 --kind regression

Without flags the texts are sentences that tfllm brings, and the model is a small BERT from scratch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tfllm import cli, data, export, metrics, models, serving, text, training
from tfllm.data import readers, tasks

# What says which weights are kept; the first by default.
METRICS = {
    "single_label": ("accuracy", "macro_f1", "micro_f1", "matthews", "loss"),
    "multi_label": ("micro_f1", "macro_f1", "subset_accuracy", "loss"),
    "regression": ("spearman", "pearson", "mean_squared_error", "loss"),
}


@dataclasses.dataclass(frozen=True)
class Config(cli.FineTuningConfig):
    """Flags of this recipe."""

    kind: Literal["single_label", "multi_label", "regression"] = "single_label"
    """What a label is: one name, a list of names (JSON lines), or a number."""
    text: str = "text"
    """Column, key or feature of the text."""
    text_pair: str | None = None
    """Column, key or feature of a second text."""
    label: str = "label"
    """Column, key or feature of the label."""
    columns: tuple[str, ...] = ()
    """Names of a table's columns where its first row holds none."""
    truncation: Literal["longest_first", "only_first", "only_second"] = "longest_first"
    """Which of two texts loses tokens where both are too long together."""
    class_weights: Literal["none", "balanced"] = "none"
    """Balanced: each class counts as much as every other, however rare it is."""
    windows: bool = False
    """The bundle reads texts longer than --sequence_length whole, in windows."""
    best_metric: str | None = None
    """What of the validation says which weights are kept. Default: accuracy; of several labels
    micro_f1; of numbers spearman."""

    def check(self) -> None:
        """Refuse what can't be trained, before TensorFlow is imported."""
        super().check()
        known = METRICS[self.kind]
        rule = f"must be one of {', '.join(known)} with --kind {self.kind}"
        metric = self.best_metric
        cli.require(metric is None or metric in known, "best_metric", metric, rule)
        rule = "is for --kind single_label and multi_label"
        weighs = self.class_weights == "none" or self.kind != "regression"
        cli.require(weighs, "class_weights", self.class_weights, rule)
        pair = self.windows and self.text_pair is not None
        cli.require(not pair, "windows", True, "is for one text a row, not with --text_pair")


def main(config: Config, run: cli.Run) -> None:
    """Labelled texts in, SavedModel out."""
    # 1. Examples and labels. What can be refused is refused before TensorFlow is imported.
    run.say(f"Reading {' '.join(config.train) or 'the sentences that tfllm brings'} …")
    pair = config.text_pair is not None
    parts = tasks.read_examples(
        config.train,
        config.validation,
        config.test,
        fields=tasks.text_fields(
            text=config.text, text_pair=config.text_pair, label=config.label, kind=config.kind
        ),
        columns=config.columns,
        validation_fraction=config.validation_fraction,
        on_error=config.on_error,
    )
    counts = {} if config.kind == "regression" else tasks.label_counts(parts.train)
    labels = tuple(counts)
    for flag, examples in parts.named()[1:]:
        if labels:
            tasks.check_labels(examples, labels, part=flag)
    bundle_name = config.export_name or f"classifier-{parts.name}"
    export.check_name(bundle_name)
    run.say(f"Labels: {', '.join(f'{k[:40]!r} ({v:,})' for k, v in counts.items()) or 'numbers'}.")

    # 2. Seed and devices
    run.say("Starting TensorFlow …")
    from tfllm import optimization

    strategy = training.set_up(**config.device_options())

    # 3. Vocabulary and model
    source = config.pretrained or config.tokenizer
    tokenizer = (
        text.load(source)
        if source
        else text.train_wordpiece(texts_of(parts.train), config.vocabulary_size)
    )
    with strategy.scope():
        model = create_model(config, tokenizer, labels, balanced_weights(config, counts), run)
    preprocess = text.Preprocessor(
        tokenizer, sequence_length=config.sequence_length, truncation=config.truncation
    )
    # Refuses what can't be served, a pair whose texts can't be told apart, before training.
    model.signatures(preprocess, pair=pair, windows=config.windows)
    if config.windows:
        run.say("Scores of the validation are of texts cut off; the bundle reads them whole.")
    run.say(f"Model: {model.config.model_type}, {model.count_params():,} parameters.")

    # 4. Data: tokenized once, in batches of like length
    encoder = data.TextEncoder(
        data.FastTokenizer.of(tokenizer),
        config.sequence_length,
        second="text_pair" if pair else None,
        truncation=config.truncation,
        label="label",
        labels=labels,
        multi_label=config.kind == "multi_label",
    )
    rows = functools.partial(
        data.task_batches, encoder=encoder, global_batch_size=config.global_batch_size
    )
    train, validation = rows(parts.train, seed=config.seed), rows(parts.validation)
    run.add_data(parts.name, train.store.manifest.counts)
    total_steps = config.total_steps(train.steps_per_epoch)
    optimization.compile_model(
        model,
        config.peak_learning_rate(),
        total_steps=total_steps,
        beta_2=0.999,
        **config.compile_options(),
    )
    best_weights = optimization.weights_to_measure(model)
    card = export.Card("text classification", labels, metrics=run.metrics)
    if config.dry_run:
        ids = train.batch(0)[0]["input_ids"][0]
        run.try_out(
            tokenizer.fast.decode(ids, skip_special_tokens=False),
            functools.partial(publish, config, model, preprocess, card, bundle_name),
            lambda: training.estimate(model, train.dataset).text(total_steps),
        )
        return

    # 5. Fit; each epoch is measured and drawn; the model ends with its best weights
    def report(rows: data.RowBatches, examples: readers.Reader, part: str) -> training.TaskReport:
        kind, thresholds = config.kind, tuple(model.thresholds)
        return training.TaskReport(
            model,
            rows,
            functools.partial(
                metrics.text_classifier,
                kind,
                labels=labels,
                thresholds=thresholds,
                lengths=rows.store.lengths("input_ids"),
            ),
            run.directory / "tensorboard",
            figures=functools.partial(training.classifier_figures, kind, labels),
            lines=functools.partial(training.classifier_lines, kind, labels, thresholds, examples),
            predictions_path=run.directory / f"{part}_predictions.jsonl",
            measured_within=best_weights,
        )

    with run.timed("train"):
        trained = training.train_task(
            model,
            train,
            report(validation, parts.validation, "validation"),
            run_dir=run.open(),
            total_steps=total_steps,
            best_metric=training.BestMetric.named(config.best_metric or METRICS[config.kind][0]),
            **config.run_options(),
        )
    run.add(trained)
    if config.kind == "multi_label" and run.is_chief:
        with best_weights():
            found = training.predict_rows(model, validation).outputs
        model.thresholds = list(metrics.best_thresholds(found["targets"], found["scores"]))
        run.metrics |= report(validation, parts.validation, "validation").evaluate()
    if parts.test is not None:
        measured = report(rows(parts.test), parts.test, "test").evaluate()
        run.metrics |= {f"test_{name}": value for name, value in measured.items()}
    if not run.is_chief:
        return

    # 6. Export, and try the bundle in a fresh process
    run.say("Exporting: the bundle is loaded back in a fresh process and compared …")
    with run.timed("export"), best_weights():
        models.save_trained(model, run.directory, tokenizer, adapters=bool(config.lora_rank))
        bundle = publish(config, model, preprocess, card, bundle_name, config.export_dir)
    run.export = str(bundle)
    shown = [example for example, _ in zip(parts.validation, range(3), strict=False)]
    instances = [
        {"text": e["text"], "text_pair": e["text_pair"]} if pair else e["text"] for e in shown
    ]
    truths = [str(example["label"]) for example in shown]
    run.say(serving.trial_text(bundle, run.directory / "tensorboard", instances, truths))


def texts_of(examples: readers.Reader) -> Iterator[str]:
    """Give all texts, for a vocabulary of their own."""
    for example in examples:
        yield example["text"]
        if "text_pair" in example:
            yield example["text_pair"]


def create_model(
    config: Config,
    tokenizer: text.Tokenizer,
    labels: tuple[str, ...],
    class_weights: list[float] | None,
    run: cli.Run,
) -> models.TextClassifier:
    """Load or create the model, and freeze what is not to be trained."""
    if not config.pretrained:
        sizes = models.small_bert_config(
            tokenizer, positions=config.sequence_length, **config.sizes()
        )
        return models.TextClassifier.from_config(
            sizes, labels=labels, kind=config.kind, class_weights=class_weights, seed=config.seed
        )
    model = models.TextClassifier.from_pretrained(
        config.pretrained,
        labels=labels or None,
        kind=config.kind,
        class_weights=class_weights,
        seed=config.seed,
        pickle=config.allow_pickle,
        new_head=config.new_head,
    )
    changes = models.adapt(model, heads=("head",), **config.adaptation())
    if changes:
        run.say(changes)
    return model


def balanced_weights(config: Config, counts: dict[str, int]) -> list[float] | None:
    """Weigh each class by how rare it is; None where all rows count alike."""
    if config.class_weights == "none" or not counts:
        return None
    return [sum(counts.values()) / (len(counts) * count) for count in counts.values()]


def publish(
    config: Config,
    model: models.TextClassifier,
    preprocess: text.Preprocessor,
    card: export.Card,
    name: str,
    folder: str,
) -> Path:
    """Export the model, proven, as the next version of a bundle."""
    pair = config.text_pair is not None
    return export.export_bundle(
        model.signatures(preprocess, pair=pair, windows=config.windows),
        folder,
        name,
        modules=[model, preprocess],
        probes=model.probes(pair=pair),
        card=card,
        **config.export_options(),
    )


if __name__ == "__main__":
    cli.main(Config, main, __file__)
