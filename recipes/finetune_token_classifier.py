r"""Fine-tune a tagger of words (names, parts of speech), and export it for TF Serving.

    python recipes/finetune_token_classifier.py --crf
    python recipes/finetune_token_classifier.py --crf --pretrained bert-base-cased \
        --train eng.train --validation eng.testa --test eng.testb --scheme iob1
    python recipes/finetune_token_classifier.py --train en.conllu --token_column 1 --tag_column 3 \
        --scheme none

Without flags the texts are sentences that tfllm brings, and the model is a small BERT from scratch.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import numpy as np

from tfllm import cli, data, export, metrics, models, serving, text, training
from tfllm.data import readers, tasks

Outputs = dict[str, np.ndarray]

# What says which weights are kept; the first by default.
SPAN_METRICS = ("f1", "precision", "recall", "loss")
TAG_METRICS = ("accuracy", "sentence_accuracy", "macro_f1", "loss")


@dataclasses.dataclass(frozen=True)
class Config(cli.FineTuningConfig):
    """Flags of this recipe."""

    crf: bool = False
    """Put a conditional random field on top: a tag then depends on the tags beside it."""
    scheme: Literal["iob1", "iob2", "bioes", "none"] = "iob2"
    """How tags mark spans in the data; none: each tag stands for its word, as parts of speech."""
    token_column: int = 0
    """Of CoNLL files: the words' column, from 0."""
    tag_column: int = -1
    """Of CoNLL files: the tags' column; -1 is the last."""
    positions_in_tokens: bool = False
    """Words end in their place within a longer one, as in Weibo NER; it is taken off."""
    tokens: str = "tokens"
    """Of JSON lines, Parquet and TFDS: the field of the words."""
    tags: str = "tags"
    """Of JSON lines, Parquet and TFDS: the field of the tags."""
    overlap: int = 32
    """Tokens that a window of a long document shares with the one before it."""
    best_metric: str | None = None
    """What of the validation says which weights are kept. Default: f1; without scheme accuracy."""

    def check(self) -> None:
        """Refuse what can't be trained, before TensorFlow is imported."""
        super().check()
        cli.require(self.overlap >= 0, "overlap", self.overlap, "must be at least 0")
        known = SPAN_METRICS if self.scheme != "none" else TAG_METRICS
        rule = f"must be one of {', '.join(known)} with --scheme {self.scheme}"
        metric = self.best_metric
        cli.require(metric is None or metric in known, "best_metric", metric, rule)


def main(config: Config, run: cli.Run) -> None:
    """Tagged words in, SavedModel out."""
    # 1. Examples and tags. What can be refused is refused before TensorFlow is imported.
    run.say(f"Reading {' '.join(config.train) or 'the sentences that tfllm brings'} …")
    spans = config.scheme != "none"
    parts = tasks.read_tagged_words(
        config.train,
        config.validation,
        config.test,
        scheme=None if config.scheme == "none" else config.scheme,
        token_column=config.token_column,
        tag_column=config.tag_column,
        positions_in_tokens=config.positions_in_tokens,
        tokens=config.tokens,
        tags=config.tags,
        validation_fraction=config.validation_fraction,
        on_error=config.on_error,
    )
    labels = tasks.tag_names(parts.train, spans=spans)
    for flag, examples in parts.named()[1:]:
        tasks.check_labels(examples, labels, field="tags", part=flag)
    bundle_name = config.export_name or f"tagger-{parts.name}"
    export.check_name(bundle_name)
    run.say(f"Tags: {', '.join(labels)}.")

    # 2. Seed and devices
    run.say("Starting TensorFlow …")
    from tfllm import optimization

    strategy = training.set_up(**config.device_options())

    # 3. Vocabulary and model
    source = config.pretrained or config.tokenizer
    if source:
        tokenizer = text.load(source)
    else:
        lines = (" ".join(example["tokens"]) for example in parts.train)
        tokenizer = text.train_wordpiece(lines, config.vocabulary_size)
    with strategy.scope():
        model = create_model(config, tokenizer, labels, run)
    preprocess = text.Preprocessor(tokenizer, sequence_length=config.sequence_length)
    # Refuses what can't be served, before training.
    model.signatures(preprocess, overlap=config.overlap)
    run.say(f"Model: {model.config.model_type}, {model.count_params():,} parameters.")

    # 4. Data: tokenized once, in batches of like length
    encoder = data.TagEncoder(
        data.FastTokenizer.of(tokenizer),
        config.sequence_length,
        labels=labels,
        overlap=config.overlap,
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
    card = export.Card("tags of words", labels, metrics=run.metrics)
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
        join = functools.partial(tags_of_sentences, rows.store, labels)
        true = [example["tags"] for example in examples]
        measure = metrics.entities if spans else metrics.tagging
        confusion = training.entity_confusion if spans else training.tag_confusion
        return training.TaskReport(
            model,
            rows,
            lambda outputs: measure(true, join(outputs)),
            run.directory / "tensorboard",
            figures=lambda outputs: {"confusion": confusion(true, join(outputs))},
            lines=lambda outputs: training.tag_lines(
                examples,
                join(outputs),
                [list(row) for row in joined(rows.store, outputs, "scores")],
            ),
            predictions_path=run.directory / f"{part}_predictions.jsonl",
            measured_within=best_weights,
        )

    best_metric = config.best_metric or (SPAN_METRICS if spans else TAG_METRICS)[0]
    with run.timed("train"):
        trained = training.train_task(
            model,
            train,
            report(validation, parts.validation, "validation"),
            run_dir=run.open(),
            total_steps=total_steps,
            best_metric=training.BestMetric.named(best_metric),
            **config.run_options(),
        )
    run.add(trained)
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
    sentences = [" ".join(example["tokens"]) for example in shown]
    truths = [" ".join(example["tags"]) for example in shown]
    run.say(serving.trial_text(bundle, run.directory / "tensorboard", sentences, truths))


def create_model(
    config: Config, tokenizer: text.Tokenizer, labels: tuple[str, ...], run: cli.Run
) -> models.TokenClassifier:
    """Load or create the model, and freeze what is not to be trained."""
    scheme: Literal["iob2"] | None = None if config.scheme == "none" else "iob2"
    if not config.pretrained:
        sizes = models.small_bert_config(
            tokenizer, positions=config.sequence_length, **config.sizes()
        )
        return models.TokenClassifier.from_config(
            sizes, labels=labels, crf=config.crf, scheme=scheme, seed=config.seed
        )
    model = models.TokenClassifier.from_pretrained(
        config.pretrained,
        labels=labels,
        crf=config.crf,
        scheme=scheme,
        seed=config.seed,
        pickle=config.allow_pickle,
        new_head=config.new_head,
    )
    heads = ("classifier", "crf") if config.crf else ("classifier",)
    changes = models.adapt(model, heads=heads, **config.adaptation())
    if changes:
        run.say(changes)
    return model


def tags_of_sentences(
    store: data.ArrayStore, labels: tuple[str, ...], outputs: Outputs
) -> list[list[str]]:
    """Name the tags of the words of each sentence."""
    return [[labels[tag] for tag in tags] for tags in joined(store, outputs, "tags")]


def joined(store: data.ArrayStore, outputs: Outputs, name: str) -> list[np.ndarray]:
    """Join what the rows say of the words of each sentence."""
    windows = np.asarray(store.values("window"))
    return training.join_words(list(outputs[name]), list(outputs["weights"]), windows)


def publish(
    config: Config,
    model: models.TokenClassifier,
    preprocess: text.Preprocessor,
    card: export.Card,
    name: str,
    folder: str,
) -> Path:
    """Export the model, proven, as the next version of a bundle."""
    return export.export_bundle(
        model.signatures(preprocess, overlap=config.overlap),
        folder,
        name,
        modules=[model, preprocess],
        probes=model.probes(),
        card=card,
        **config.export_options(),
    )


if __name__ == "__main__":
    cli.main(Config, main, __file__)
