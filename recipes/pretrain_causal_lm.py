"""Train a GPT-2 on text, from scratch or from a checkpoint, and export it for TF Serving.

    python recipes/pretrain_causal_lm.py
    python recipes/pretrain_causal_lm.py --train 'books/*.txt' --validation held_out.txt
    python recipes/pretrain_causal_lm.py --train notes.txt --pretrained gpt2 --learning_rate 1e-4

Without flags the text is the documentation that this Python carries. Measured on two cores of a
shared Xeon on 2026-11-23: 2.20 bits per byte on held-out documents, where gzip needs 2.53 (Python
3.13), in 98 seconds, of which 82 are training; with other jobs beside it up to 5 minutes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tfllm import cli, data, export, metrics, models, serving, text, training
from tfllm.data import cleaning
from tfllm.models import gpt2_sizes
from tfllm.models.sizes import check_sizes


@dataclasses.dataclass(frozen=True)
class Config(cli.CommonConfig):
    """Flags of this recipe."""

    epochs: int = 2
    """Passes over the training text."""
    global_batch_size: int = 16
    """Rows of one optimizer step, over all devices and micro-batches."""
    learning_rate: float | None = None
    """Highest learning rate. Default: 2.5e-3 from scratch, 5e-5 with --pretrained."""
    documents: data.DocumentUnit = "file"
    """What one document is: a whole file, the lines between blank lines, or each line."""
    vocabulary_size: int = 2048
    """Words of the vocabulary that is trained where --pretrained brings none."""
    num_layers: int = 3
    """Blocks of a model from scratch."""
    num_heads: int = 4
    """Attention heads of each block, from scratch."""
    hidden_dim: int = 128
    """Width of a model from scratch, a multiple of --num_heads."""
    dropout: float = 0.0
    """Share of activations that training zeroes, from scratch; at least 0 and below 1."""
    max_new_tokens: int | None = None
    """Tokens of a completion, in samples and in the bundle. Default: 48, or half the positions."""
    temperature: float = 0.7
    """Of the bundle's default signature; 0 takes the likeliest token."""
    clean: bool = False
    """Repair Unicode, drop duplicates and what Gopher's rules call no prose, before training."""

    def check(self) -> None:
        """Refuse what can't be trained, before TensorFlow is imported."""
        super().check()
        check_sizes(self.num_layers, self.num_heads, self.hidden_dim, self.dropout)
        words, length, new = self.vocabulary_size, self.sequence_length, self.max_new_tokens
        cli.require(words >= 257, "vocabulary_size", words, "is below 257")
        cli.require(self.temperature >= 0, "temperature", self.temperature, "must not be negative")
        most = length
        if self.pretrained:
            most = gpt2_sizes.positions_of_pretrained(self.pretrained)
        rule = f"is above the {most} positions of {self.pretrained}"
        cli.require(length <= most, "sequence_length", length, rule)
        rule = f"must be at least 1 and at most the model's {most} positions"
        cli.require(new is None or 1 <= new <= most, "max_new_tokens", new, rule)


def main(config: Config, run: cli.Run) -> None:
    """Text in, SavedModel out."""
    # 1. Text. What can be refused is refused before TensorFlow is imported, which takes seconds.
    run.say(f"Reading {' '.join(config.train) or 'the documentation of this Python'} …")
    cleaner = cleaning.Cleaner(cleaning.raw_text_steps()) if config.clean else None
    corpus = data.read_corpus(
        config.train,
        config.validation,
        config.test,
        unit=config.documents,
        validation_fraction=config.validation_fraction,
        cleaner=cleaner,
    )
    bundle_name = config.export_name or f"gpt2-{corpus.name}"
    export.check_name(bundle_name)

    # 2. Seed and devices
    run.say("Starting TensorFlow …")
    from tfllm import optimization

    strategy = training.set_up(**config.device_options())

    # 3. Vocabulary and model
    if config.pretrained:
        tokenizer = text.load(config.pretrained)
    else:
        tokenizer = text.train_byte_level_bpe(corpus.train, config.vocabulary_size)
    for part, documents in corpus.parts():
        data.check_length(documents, tokenizer, config.sequence_length + 1, part)
    with strategy.scope():
        model = create_model(config, tokenizer, run)
    signatures = signatures_of(model, config, tokenizer)
    run.say(f"Model: {model.config.n_layer} layers, {model.count_params():,} parameters.")

    # 4. Data: each part is one stream of tokens on disk, cut into blocks
    train = blocks(config, tokenizer, corpus.train, seed=config.seed)
    validation = blocks(config, tokenizer, corpus.validation)
    run.say(f"Text {corpus.name}: {train}. Held out: {validation}.")
    # What was read, and where rows are skipped or cut, how many.
    counts = train.store.arrays.manifest.counts
    run.metrics |= {f"train_{name}": count for name, count in counts.items()}
    if cleaner:
        run.say(cleaner.text(examples=config.dry_run))
        run.metrics |= cleaner.removed()
    total_steps = config.total_steps(train.steps_per_epoch)
    peak = config.learning_rate or (5e-5 if config.pretrained else 2.5e-3)
    optimization.compile_model(model, peak, total_steps=total_steps, **config.compile_options())
    modules, card = (model, tokenizer), export.Card("text generation", metrics=run.metrics)
    if config.dry_run:
        row = train.batch(0)[0]["input_ids"][0]
        run.try_out(
            tokenizer.fast.decode(row, skip_special_tokens=False),
            lambda folder: publish(config, signatures, card, bundle_name, folder, modules),
            lambda: training.estimate(model, train.dataset).text(total_steps),
        )
        return

    # 5. Fit; each epoch is measured and sampled from; the model ends with its best weights
    prompts = corpus.prompts(3)
    measure = functools.partial(
        metrics.language_model, tokens=validation.targets, text_bytes=validation.text_bytes
    )
    best_weights = optimization.weights_to_measure(model)
    with run.timed("train"):
        trained = training.train_language_model(
            model,
            train,
            validation,
            run_dir=run.open(),
            total_steps=total_steps,
            measure=measure,
            sample=lambda: (prompts[0][0], complete(signatures, prompts[0][0])),
            measured_within=best_weights,
            **config.run_options(),
        )
    run.add(trained)
    run.metrics["gzip_bits_per_byte"] = metrics.gzip_bits_per_byte(corpus.validation)
    if corpus.test:
        test = blocks(config, tokenizer, corpus.test)
        with best_weights():
            loss = model.evaluate(test.dataset(), verbose=0, return_dict=True)["loss"]
        measured = metrics.language_model(loss, tokens=test.targets, text_bytes=test.text_bytes)
        run.metrics |= {f"test_{name}": value for name, value in measured.items()}
    if not run.is_chief:
        return

    # 6. Export, and try the bundle in a fresh process
    run.say("Exporting: the bundle is loaded back in a fresh process and compared …")
    with run.timed("export"), best_weights():
        models.save_trained(model, run.directory, tokenizer, adapters=bool(config.lora_rank))
        generation_of(config).save(run.directory / "model")
        if config.lora_rank:
            signatures = signatures_of(model, config, tokenizer)  # merging changed the model
        bundle = publish(config, signatures, card, bundle_name, config.export_dir, modules)
    run.export = str(bundle)
    run.say(f"\n{serving.completions_text(bundle, prompts)}\n")
    tensorboard = run.directory / "tensorboard"
    run.say(f"{serving.next_commands_text(bundle, tensorboard, prompts[0][0])}\n")


def create_model(config: Config, tokenizer: text.Tokenizer, run: cli.Run) -> models.CausalLM:
    """Load or create the model, and freeze what is not to be trained."""
    if not config.pretrained:
        sizes = gpt2_sizes.small_gpt2_config(
            tokenizer,
            positions=config.sequence_length,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            hidden_dim=config.hidden_dim,
            dropout=config.dropout,
        )
        return models.CausalLM.from_config(sizes, seed=config.seed)
    model = models.CausalLM.from_pretrained(config.pretrained, seed=config.seed)
    changes = models.adapt(model, **config.adaptation())
    if changes:
        run.say(changes)
    return model


def signatures_of(
    model: models.CausalLM, config: Config, tokenizer: text.Tokenizer
) -> dict[str, Any]:
    """Give what the bundle serves."""
    return model.signatures(tokenizer, **generation_of(config).arguments())


def generation_of(config: Config) -> models.GenerationDefaults:
    """Say how the bundle's default signature generates."""
    return models.GenerationDefaults(
        config.max_new_tokens,
        temperature=config.temperature,
        top_k=50 if config.temperature else 0,
    )


def publish(
    config: Config,
    signatures: dict[str, Any],
    card: export.Card,
    name: str,
    folder: str,
    modules: tuple[models.CausalLM, text.Tokenizer],
) -> Path:
    """Export the model, proven, as the next version of a bundle."""
    return export.export_bundle(
        signatures,
        folder,
        name,
        modules=modules,
        probes=modules[0].probes(modules[1]),
        card=card,
        **config.export_options(),
    )


def blocks(
    config: Config, tokenizer: text.Tokenizer, documents: Iterable[str], seed: int | None = None
) -> data.TokenBlocks:
    """Tokenize documents, once for all runs, and cut them into blocks."""
    return data.TokenBlocks(
        data.build_store(documents, tokenizer),
        sequence_length=config.sequence_length,
        global_batch_size=config.global_batch_size,
        seed=seed,
    )


def complete(signatures: dict[str, Any], prompt: str) -> str:
    """Continue a prompt as the model now is."""
    return signatures["serving_default"]([prompt])["text"].numpy()[0].decode()


if __name__ == "__main__":
    cli.main(Config, main, __file__)
