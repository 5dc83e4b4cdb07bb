r"""Fine-tune a GPT-2 that writes one text for another, and export it for TF Serving.

    python recipes/finetune_generator.py
    python recipes/finetune_generator.py --train train.en:train.de --validation val.en:val.de \
        --metrics bleu chrf
    python recipes/finetune_generator.py --pretrained gpt2 --train samsum.jsonl \
        --prompt_template '{dialogue}\nTL;DR:' --completion_template ' {summary}' --metrics rouge
    python recipes/finetune_generator.py --train dialogues.txt --turn_template '{speaker}: {text}\n'

Without flags the texts are notes that tfllm brings, which it learns to rewrite, and the model is a
small GPT-2 from scratch.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import ClassVar, Literal

from tfllm import cli, data, export, metrics, models, serving, text, training
from tfllm.data import readers, tasks, templates
from tfllm.errors import InputError
from tfllm.models import generation_defaults, gpt2_sizes


@dataclasses.dataclass(frozen=True)
class Config(cli.FineTuningConfig):
    """Flags of this recipe."""

    rows_are_packed: ClassVar[bool] = True

    global_batch_size: int = 8
    """Packed rows of one optimizer step, over all devices and micro-batches."""
    prompt_template: str | None = None
    r"""What is read, with {names} of fields. Default: '{source}\n'."""
    completion_template: str | None = None
    """What is learnt. Default: '{target}'."""
    turn_template: str | None = None
    r"""Of dialogues: one turn, for example '{speaker}: {text}\n'."""
    speaker: str = "last"
    """Of dialogues: whose turns are learnt: all, first, last (who speaks so), or a name."""
    speakers: tuple[str, str] = ("A", "B")
    """Of dialogues: names of the two."""
    turns: str = "turns"
    """Of dialogues in JSON lines and the like: field of the list of turns."""
    end_of_turn: str = "__eou__"
    """Of dialogues in .txt, one a line: what ends each turn."""
    columns: tuple[str, ...] = ()
    """Columns of a table whose first row does not name them."""
    too_long: Literal["left", "skip", "refuse"] = "left"
    """An example above --sequence_length loses its beginning, or is left out, or ends the run."""
    metrics: tuple[str, ...] = ("exact_match", "chrf", "perplexity")
    """What is measured: rouge, bleu, chrf, distinct, exact_match, perplexity."""
    words: Literal["13a", "zh", "char"] = "13a"
    """What a word is to rouge, bleu and distinct: of Latin text, of Chinese, or any character."""
    best_metric: str = "loss"
    """What of the validation says which weights are kept: loss, or a number of --metrics."""
    max_new_tokens: int | None = None
    """Tokens of an answer. Default: those of the longest completion, at most half a row."""
    num_beams: int | None = None
    """Search for the likeliest answer with so many beams, in measuring and in the bundle."""
    generated: int = 200
    """Validation prompts that are answered after each epoch; the test's all are."""

    def check(self) -> None:
        """Refuse what can't be trained, before TensorFlow is imported."""
        super().check()
        self.template()
        words, length, new = self.vocabulary_size, self.sequence_length, self.max_new_tokens
        cli.require(words >= 257, "vocabulary_size", words, "is below 257")
        cli.require(not self.new_head, "new_head", True, "is for tasks: a GPT-2 keeps its own")
        cli.require(not self.allow_pickle, "allow_pickle", True, "is not for GPT-2")
        cli.require(self.generated >= 1, "generated", self.generated, "must be at least 1")
        beams = self.num_beams
        rule = f"must be at least 1 and at most {generation_defaults.MOST_BEAMS}"
        right = beams is None or 1 <= beams <= generation_defaults.MOST_BEAMS
        cli.require(right, "num_beams", beams, rule)
        cli.require(bool(self.end_of_turn.strip()), "end_of_turn", "''", "must not be blank")
        known = metrics.GENERATION_METRICS
        for name in self.metrics:
            cli.require(name in known, "metrics", name, f"must be of {', '.join(known)}")
        numbers = ["loss", *(number for name in self.metrics for number in known[name])]
        rule = f"must be one of {', '.join(numbers)} with these --metrics"
        cli.require(self.best_metric in numbers, "best_metric", self.best_metric, rule)
        most = length
        if self.pretrained:
            most = gpt2_sizes.positions_of_pretrained(self.pretrained)
        cli.require(length >= 2, "sequence_length", length, "must be at least 2")
        rule = f"is above the {most} positions of {self.pretrained}"
        cli.require(length <= most, "sequence_length", length, rule)
        rule = f"must be at least 1 and below the {most} positions of the model"
        cli.require(new is None or 1 <= new < most, "max_new_tokens", new, rule)

    def template(self) -> templates.ExampleTemplate:
        """What examples look like to the model."""
        pair = (self.prompt_template, self.completion_template)
        if self.turn_template is None:
            prompt = template_of("{source}\n" if pair[0] is None else pair[0], "--prompt_template")
            completion = template_of(
                "{target}" if pair[1] is None else pair[1], "--completion_template"
            )
            return templates.PairTemplate(prompt, completion)
        rule = "is for dialogues, --prompt_template and --completion_template for pairs"
        cli.require(pair == (None, None), "turn_template", self.turn_template, rule)
        turn = template_of(self.turn_template, "--turn_template")
        return templates.DialogueTemplate(turn, self.speaker, self.speakers)


def template_of(text: str, flag: str) -> templates.Template:
    """Read a flag's template."""
    return templates.Template.of_flag(cli.unescaped(text), flag)


def main(config: Config, run: cli.Run) -> None:
    """Texts with texts in, SavedModel out."""
    # 1. Examples. What can be refused is refused before TensorFlow is imported.
    run.say(f"Reading {' '.join(config.train) or 'the notes that tfllm brings'} …")
    template = config.template()
    parts = read(config, template)
    check_questions(config, template, parts)
    bundle_name = config.export_name or f"generator-{parts.name}"
    export.check_name(bundle_name)

    # 2. Seed and devices
    run.say("Starting TensorFlow …")
    from tfllm import optimization

    strategy = training.set_up(**config.device_options())

    # 3. Vocabulary and model
    source = config.pretrained or config.tokenizer
    pieces = (piece.text for example in parts.train for piece in template.pieces(example))
    tokenizer = (
        text.load(source) if source else text.train_byte_level_bpe(pieces, config.vocabulary_size)
    )
    with strategy.scope():
        model = create_model(config, tokenizer, run)
    run.say(f"Model: {model.config.n_layer} layers, {model.count_params():,} parameters.")

    # 4. Data: tokenized once, several examples to a row, none of them seeing another
    encoder = data.CompletionEncoder(
        data.FastTokenizer.of(tokenizer), template, config.sequence_length, config.too_long
    )
    rows = functools.partial(
        data.completion_batches, encoder=encoder, global_batch_size=config.global_batch_size
    )
    train = rows(parts.train, seed=config.seed)
    validation = rows(parts.validation, part="--validation")
    run.add_data(parts.name, {"examples": len(train.store)} | train.store.manifest.counts)
    run.say(f"Packed: {train}.")
    total_steps = config.total_steps(train.steps_per_epoch)
    optimization.compile_model(
        model,
        config.peak_learning_rate(),
        total_steps=total_steps,
        beta_2=0.999,
        **config.compile_options(),
    )
    longest = min(train.longest_completion, config.sequence_length // 2)
    defaults = models.GenerationDefaults(config.max_new_tokens or longest, config.num_beams)
    card = export.Card("text generation", metrics=run.metrics)
    publisher = functools.partial(
        publish, config, model, tokenizer, template, defaults, card, bundle_name
    )
    best_weights = optimization.weights_to_measure(model)
    if config.dry_run:
        ids = train.batch(0)[0]["input_ids"][0]
        run.try_out(
            tokenizer.fast.decode(ids, skip_special_tokens=False),
            publisher,
            lambda: training.estimate(model, train.dataset).text(total_steps),
        )
        return

    # 5. Fit; each epoch is measured by what the model writes; it ends with its best weights
    writer = model.signatures(tokenizer, **defaults.arguments())["serving_default"]

    def report(
        rows: data.PackedRows, examples: readers.Reader, part: str, at_most: int | None
    ) -> training.GenerationReport:
        asked = [q for example in examples for q in template.questions(example)]
        return training.GenerationReport(
            model,
            rows,
            lambda prompts: [t.decode().strip() for t in writer(prompts)["text"].numpy()],
            functools.partial(metrics.generation, config.metrics, words=config.words),
            run.directory / "tensorboard",
            prompts=[question.prompt for question in asked],
            references=[question.reference for question in asked],
            at_most=at_most,
            predictions_path=run.directory / f"{part}_predictions.jsonl",
            measured_within=best_weights,
        )

    with run.timed("train"):
        trained = training.train_task(
            model,
            train,
            report(validation, parts.validation, "validation", config.generated),
            run_dir=run.open(),
            total_steps=total_steps,
            best_metric=training.BestMetric.named(config.best_metric),
            **config.run_options(),
        )
    run.add(trained)
    if parts.test is not None:
        test = rows(parts.test, part="--test")
        measured = report(test, parts.test, "test", None).evaluate()
        run.metrics |= {f"test_{name}": value for name, value in measured.items()}
    if not run.is_chief:
        return
    run.versions = metrics.signatures(config.metrics, words=config.words)

    # 6. Export, and try the bundle in a fresh process
    run.say("Exporting: the bundle is loaded back in a fresh process and compared …")
    with run.timed("export"), best_weights():
        models.save_trained(model, run.directory, tokenizer, adapters=bool(config.lora_rank))
        templates.save_template(run.directory / "model", template)
        defaults.save(run.directory / "model")
        bundle = publisher(config.export_dir)
    run.export = str(bundle)
    questions = (q for example in parts.validation for q in template.questions(example))
    asked = list(itertools.islice(questions, 3))
    instances = [question.request for question in asked]
    truths = [question.reference for question in asked]
    run.say(serving.trial_text(bundle, run.directory / "tensorboard", instances, truths))
    run.say(f"Ask it here:\n\n    python recipes/generate.py {run.directory}")


def read(config: Config, template: templates.ExampleTemplate) -> tasks.Parts:
    """Open pairs, or dialogues."""
    files = (config.train, config.validation, config.test)
    if isinstance(template, templates.PairTemplate):
        return tasks.read_completions(
            *files,
            template=template,
            columns=config.columns,
            validation_fraction=config.validation_fraction,
            on_error=config.on_error,
        )
    return tasks.read_dialogues(
        *files,
        turns=config.turns,
        end_of_turn=config.end_of_turn,
        speakers=config.speakers,
        validation_fraction=config.validation_fraction,
        on_error=config.on_error,
    )


def check_questions(
    config: Config, template: templates.ExampleTemplate, parts: tasks.Parts
) -> None:
    """See that each part asks for something, since what the model writes is measured."""
    for flag, examples in parts.named():
        if any(template.questions(example) for example in examples):
            continue
        given = " ".join(getattr(config, flag[2:]) or config.train)
        why = "no dialogue has a turn of who is learnt behind another one (--speaker)"
        if all(len(example["turns"]) < 2 for example in examples):
            why = (
                f"no dialogue has a second turn; is {config.end_of_turn!r} what ends one "
                "(--end_of_turn)?"
            )
        raise InputError(f"{flag} {given}: {why}")


def create_model(config: Config, tokenizer: text.Tokenizer, run: cli.Run) -> models.CausalLM:
    """Load or create the model, and freeze what is not to be trained."""
    if not config.pretrained:
        sizes = gpt2_sizes.small_gpt2_config(
            tokenizer, positions=config.sequence_length, **config.sizes()
        )
        return models.CausalLM.from_config(sizes, seed=config.seed)
    model = models.CausalLM.from_pretrained(config.pretrained, seed=config.seed)
    changes = models.adapt(model, **config.adaptation())
    if changes:
        run.say(changes)
    return model


def publish(
    config: Config,
    model: models.CausalLM,
    tokenizer: text.Tokenizer,
    template: templates.ExampleTemplate,
    defaults: models.GenerationDefaults,
    card: export.Card,
    name: str,
    folder: str,
) -> Path:
    """Export the model with its template, proven, as the next version of a bundle."""
    signatures = model.signatures(tokenizer, **defaults.arguments())
    return export.export_bundle(
        templates.with_template(signatures, template),
        folder,
        name,
        modules=[model, tokenizer],
        probes=templates.with_template_probes(
            model.probes(tokenizer), template, export.AWKWARD_TEXTS, tokenizer
        ),
        card=card,
        **config.export_options(),
    )


if __name__ == "__main__":
    cli.main(Config, main, __file__)
