r"""Fine-tune a model that finds answers in texts, and export it for TF Serving.

    python recipes/finetune_question_answering.py
    python recipes/finetune_question_answering.py --pretrained bert-base-uncased \
        --train train-v1.1.json --validation dev-v1.1.json --sequence_length 384

Without flags the questions are those that tfllm brings, and the model is a small BERT from scratch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfllm import cli, data, export, metrics, models, serving, text, training
from tfllm.data import readers, tasks

Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Config(cli.FineTuningConfig):
    """Flags of this recipe."""

    sequence_length: int = 384
    """Tokens of a window: question, a part of the context, special tokens."""
    overlap: int = 128
    """Tokens of the context that a window shares with the one before it."""
    max_question_tokens: int = 64
    """Longer questions are cut."""
    max_answer_tokens: int = 30
    """No longer answer is given."""
    best_metric: Literal["f1", "exact_match", "loss"] = "f1"
    """What of the validation says which weights are kept."""

    def check(self) -> None:
        """Refuse what can't be trained, before TensorFlow is imported."""
        super().check()
        for name, least in (("max_question_tokens", 1), ("max_answer_tokens", 1), ("overlap", 0)):
            value = getattr(self, name)
            cli.require(value >= least, name, value, f"must be at least {least}")


def main(config: Config, run: cli.Run) -> None:
    """Questions with their contexts and answers in, SavedModel out."""
    # 1. Questions. What can be refused is refused before TensorFlow is imported.
    run.say(f"Reading {' '.join(config.train) or 'the questions that tfllm brings'} …")
    parts = tasks.read_questions(
        config.train,
        config.validation,
        config.test,
        validation_fraction=config.validation_fraction,
        on_error=config.on_error,
    )
    bundle_name = config.export_name or f"answers-{parts.name}"
    export.check_name(bundle_name)

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
        model = create_model(config, tokenizer, run)
    preprocess = text.Preprocessor(tokenizer, sequence_length=config.sequence_length)
    # Refuses what can't be served, before training.
    model.signatures(
        preprocess, overlap=config.overlap, max_question_tokens=config.max_question_tokens
    )
    run.say(f"Model: {model.config.model_type}, {model.count_params():,} parameters.")

    # 4. Data: tokenized once, in windows, in batches of like length
    encoder = data.QuestionEncoder(
        data.FastTokenizer.of(tokenizer),
        config.sequence_length,
        overlap=config.overlap,
        max_question_tokens=config.max_question_tokens,
    )
    rows = functools.partial(
        data.task_batches, encoder=encoder, global_batch_size=config.global_batch_size
    )
    train, validation = rows(parts.train, seed=config.seed), rows(parts.validation)
    counts = {"windows": len(train.store)} | train.store.manifest.counts
    run.add_data(parts.name, counts)
    total_steps = config.total_steps(train.steps_per_epoch)
    optimization.compile_model(
        model,
        config.peak_learning_rate(),
        total_steps=total_steps,
        beta_2=0.999,
        **config.compile_options(),
    )
    best_weights = optimization.weights_to_measure(model)
    card = export.Card("answers from a text", metrics=run.metrics)
    if config.dry_run:
        ids = train.batch(0)[0]["input_ids"][0]
        run.try_out(
            tokenizer.fast.decode(ids, skip_special_tokens=False),
            functools.partial(publish, config, model, preprocess, card, bundle_name),
            lambda: training.estimate(model, train.dataset).text(total_steps),
        )
        return

    # 5. Fit; each epoch is measured; the model ends with its best weights
    def report(rows: data.RowBatches, examples: readers.Reader, part: str) -> training.TaskReport:
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

        return training.TaskReport(
            model,
            rows,
            lambda outputs: metrics.answers(answer(outputs)[0], references),
            run.directory / "tensorboard",
            lines=lines,
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
            best_metric=training.BestMetric.named(config.best_metric),
            **config.run_options(),
        )
    run.add(trained)
    if run.is_chief and any(not example["answers"] for example in parts.validation):
        with best_weights():
            outputs = training.predict_rows(model, validation).outputs
        answers, margins, _ = best_answers(validation.store, parts.validation, outputs)
        references = {str(i): example["answers"] for i, example in enumerate(parts.validation)}
        model.no_answer_threshold = metrics.best_no_answer_threshold(answers, references, margins)
        run.say(f"No answer is given above a margin of {model.no_answer_threshold:.2f}.")
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
    instances = [{name: example[name] for name in ("question", "context")} for example in shown]
    truths = [" | ".join(example["answers"]) or "(none)" for example in shown]
    run.say(serving.trial_text(bundle, run.directory / "tensorboard", instances, truths))


def texts_of(examples: readers.Reader) -> Iterator[str]:
    """Give all texts, for a vocabulary of their own."""
    for example in examples:
        yield example["question"]
        yield example["context"]


def create_model(
    config: Config, tokenizer: text.Tokenizer, run: cli.Run
) -> models.QuestionAnswerer:
    """Load or create the model, and freeze what is not to be trained."""
    if not config.pretrained:
        sizes = models.small_bert_config(
            tokenizer, positions=config.sequence_length, **config.sizes()
        )
        return models.QuestionAnswerer.from_config(
            sizes, max_answer_tokens=config.max_answer_tokens, seed=config.seed
        )
    model = models.QuestionAnswerer.from_pretrained(
        config.pretrained,
        max_answer_tokens=config.max_answer_tokens,
        seed=config.seed,
        pickle=config.allow_pickle,
    )
    changes = models.adapt(model, heads=("qa_outputs",), **config.adaptation())
    if changes:
        run.say(changes)
    return model


def best_answers(
    store: data.ArrayStore, examples: readers.Reader, outputs: Outputs
) -> tuple[dict[str, str], dict[str, float], training.BestAnswers]:
    """Give the best answer to each question and how much surer none is, by its number."""
    found = training.best_answers(store, (example["context"] for example in examples), outputs)
    answers = {str(number): answer for number, answer in enumerate(found.texts)}
    margins = {str(number): float(margin) for number, margin in enumerate(found.margins)}
    return answers, margins, found


def publish(
    config: Config,
    model: models.QuestionAnswerer,
    preprocess: text.Preprocessor,
    card: export.Card,
    name: str,
    folder: str,
) -> Path:
    """Export the model, proven, as the next version of a bundle."""
    return export.export_bundle(
        model.signatures(
            preprocess, overlap=config.overlap, max_question_tokens=config.max_question_tokens
        ),
        folder,
        name,
        modules=[model, preprocess],
        probes=model.probes(),
        card=card,
        **config.export_options(),
    )


if __name__ == "__main__":
    cli.main(Config, main, __file__)
