"""Train a BERT on text with masked words, from scratch or from a checkpoint, and export it.

    python recipes/pretrain_masked_lm.py
    python recipes/pretrain_masked_lm.py --train 'books/*.txt' --documents blank_line
    python recipes/pretrain_masked_lm.py --train n.txt --pretrained bert-base-uncased --new_words 9

Without flags the text is the documentation that this Python carries. The result, `RUN/model`, is a
folder that the `finetune_…` recipes take as `--pretrained`, and that transformers loads. Held-out
words are all hidden when they are measured; in training, a tenth of those to guess stand as they
were, as in BERT, which makes its accuracy look 0.1 better than it is.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tfllm import cli, data, export, models, serving, text, training
from tfllm.errors import InputError
from tfllm.models.sizes import check_sizes


@dataclasses.dataclass(frozen=True)
class Config(cli.CommonConfig):
    """Flags of this recipe."""

    epochs: int = 8
    """Passes over the training text, each with masks of its own."""
    global_batch_size: int = 16
    """Rows of one optimizer step, over all devices and micro-batches."""
    learning_rate: float | None = None
    """Highest learning rate. Default: 2e-3 from scratch, 1e-4 with --pretrained."""
    weight_decay: float = 0.01
    """Decoupled decay of matrices, per unit of learning rate."""
    documents: data.DocumentUnit = "file"
    """What one document is: a whole file, the lines between blank lines, or each line."""
    objectives: tuple[str, ...] = ("masked_lm",)
    """What is learnt, NAME or NAME=SHARE of the loss: masked_lm, next_sentence, sentence_order."""
    mask_rate: float = 0.15
    """Share of the tokens to be guessed; above 0 and at most 0.5."""
    mask_unit: data.MaskUnit = "word"
    """What is masked together: one token, the pieces of a word, or one to three words."""
    words: data.WordKind = "pieces"
    """What a word is: as the vocabulary's pieces say, or Chinese, as jieba finds it."""
    new_words: int = 0
    """Frequent words of --train that --pretrained's vocabulary is extended by."""
    vocabulary_size: int = 4096
    """Words of the vocabulary that is trained where --pretrained brings none."""
    num_layers: int = 3
    """Blocks of a model from scratch."""
    num_heads: int = 4
    """Attention heads of each block, from scratch."""
    hidden_dim: int = 128
    """Width of a model from scratch, a multiple of --num_heads."""
    dropout: float = 0.0
    """Share of activations that training zeroes, from scratch; at least 0 and below 1."""

    def check(self) -> None:
        """Refuse what can't be trained, before TensorFlow is imported."""
        super().check()
        check_sizes(self.num_layers, self.num_heads, self.hidden_dim, self.dropout)
        data.check_objectives(self.shares())
        rate, new = self.mask_rate, self.new_words
        cli.require(0 < rate <= 0.5, "mask_rate", rate, "must be above 0 and at most 0.5")
        words = self.vocabulary_size
        cli.require(words >= 100, "vocabulary_size", words, "must be at least 100")
        cli.require(new >= 0, "new_words", new, "must not be negative")
        cli.require(not new or bool(self.pretrained), "new_words", new, "needs --pretrained")
        learnt = self.lora_rank is None and self.freeze_layers is None
        rule = "would never be learnt: --lora_rank and --freeze_layers leave embeddings as they are"
        cli.require(not new or learnt, "new_words", new, rule)
        for name in ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "dropout"):
            value, default = getattr(self, name), getattr(Config, name)
            rule = "is for a model from scratch, and --pretrained brings its own"
            cli.require(not self.pretrained or value == default, name, value, rule)
        rule = "needs rows with equally many masks, and theirs differ"
        cli.require(not self.xla, "xla", self.xla, rule)

    def shares(self) -> dict[str, float]:
        """Each objective's share of the loss."""
        found: dict[str, float] = {}
        for given in self.objectives:
            name, _, share = given.partition("=")
            cli.require(name not in found, "objectives", given, f"names {name} twice")
            share = share if "=" in given else "1"
            found[name] = float(share) if re.fullmatch(r"\d*\.?\d+", share) else 0.0
            rule = "must be NAME, or NAME=SHARE with a share above 0"
            cli.require(0 < found[name] < math.inf, "objectives", given, rule)
        return found


def main(config: Config, run: cli.Run) -> None:
    """Text in, a pretrained folder and a SavedModel out."""
    # 1. Text. What can be refused is refused before TensorFlow is imported, which takes seconds.
    run.say(f"Reading {' '.join(config.train) or 'the documentation of this Python'} …")
    corpus = data.read_corpus(
        config.train,
        config.validation,
        config.test,
        unit=config.documents,
        validation_fraction=config.validation_fraction,
    )
    bundle_name = config.export_name or f"masked-lm-{corpus.name}"
    export.check_name(bundle_name)

    # 2. Seed and devices
    run.say("Starting TensorFlow …")
    from tfllm import optimization

    strategy = training.set_up(**config.device_options())

    # 3. Vocabulary and model
    vocabulary = create_vocabulary(config, corpus.train)
    tokenizer = vocabulary.tokenizer
    with strategy.scope():
        model = create_model(config, vocabulary, run)
    masking = data.Masking.of(tokenizer, rate=config.mask_rate, unit=config.mask_unit)
    preprocess = text.Preprocessor(tokenizer, sequence_length=config.sequence_length)
    signatures = model.signatures(preprocess)
    run.say(f"Model: {model.config.model_type}, {model.count_params():,} parameters.")

    # 4. Data: tokenized once for all masks, which are drawn anew in each epoch
    masked = functools.partial(
        data.masked_batches,
        tokenizer=tokenizer,
        objectives=config.shares(),
        words=config.words,
        sequence_length=config.sequence_length,
        global_batch_size=config.global_batch_size,
    )
    train = masked(corpus.train, masking=masking, seed=config.seed)
    # Of held-out words none is left as it was: a model that only copies would be right there.
    hidden = dataclasses.replace(masking, mask_share=1.0, random_share=0.0)
    held_out = [masked(lines, masking=hidden, part=part) for part, lines in corpus.parts()[1:]]
    validation, *test = held_out
    run.say(f"Text {corpus.name}: {train}. Held out: {validation}.")
    commonest = run.metrics["unigram_accuracy"] = data.unigram_accuracy(train, validation)
    run.say(f"Guessing the commonest word is right for {commonest:.1%} of the masks.")
    counts = train.store.manifest.counts
    run.metrics |= {f"train_{name}": count for name, count in counts.items()}
    total_steps = config.total_steps(train.steps_per_epoch)
    peak = config.learning_rate or (1e-4 if config.pretrained else 2e-3)
    optimization.compile_model(model, peak, total_steps=total_steps, **config.compile_options())
    card = export.Card("masked words", metrics=run.metrics)
    if config.dry_run:
        row = train.batch(0)[0]["input_ids"][0]
        run.try_out(
            tokenizer.fast.decode(row, skip_special_tokens=False),
            functools.partial(publish, config, model, preprocess, card, bundle_name),
            lambda: training.estimate(model, train.dataset).text(total_steps),
        )
        return

    # 5. Fit; each epoch is measured and drawn; the model ends with its best weights
    best_weights = optimization.weights_to_measure(model)
    mask = tokenizer.fast.id_to_token(masking.mask_id)
    texts, truths = zip(*(masked_and_true(end, mask) for _, end in corpus.prompts(3)), strict=True)

    def report(rows: data.MaskedRows | data.MaskedPairs) -> training.MaskedLanguageModelReport:
        return training.MaskedLanguageModelReport(
            model,
            rows,
            lambda: (texts[0], filled(signatures, texts[0])),
            run.directory / "tensorboard",
            measured_within=best_weights,
        )

    with run.timed("train"):
        trained = training.train_task(
            model,
            train,
            report(validation),
            run_dir=run.open(),
            total_steps=total_steps,
            identity={
                "masking": json.dumps(masking.identity()),
                "objectives": json.dumps(config.shares()),
            },
            **config.run_options(),
        )
    run.add(trained)
    for part in test:
        measured = report(part).evaluate()
        run.metrics |= {f"test_{name}": value for name, value in measured.items()}
    if not run.is_chief:
        return

    # 6. Export, and try the bundle in a fresh process
    run.say("Exporting: the bundle is loaded back in a fresh process and compared …")
    with run.timed("export"), best_weights():
        models.save_trained(model, run.directory, tokenizer, adapters=bool(config.lora_rank))
        bundle = publish(config, model, preprocess, card, bundle_name, config.export_dir)
    run.export = str(bundle)
    run.say(serving.trial_text(bundle, run.directory / "tensorboard", texts, truths))


def create_vocabulary(config: Config, documents: Iterable[str]) -> text.Vocabulary:
    """Train a vocabulary, or load one and add the words that it lacks most."""
    if not config.pretrained:
        return text.Vocabulary(text.train_wordpiece(documents, config.vocabulary_size), [])
    tokenizer = text.load(config.pretrained)
    if not config.new_words:
        return text.Vocabulary(tokenizer, [])
    if not isinstance(tokenizer, text.WordPiece):
        raise InputError(
            f"--new_words extends WordPiece vocabularies, and that of {config.pretrained} is a "
            f"{type(tokenizer).__name__}. Leave it out"
        )
    return text.extend_wordpiece(tokenizer, documents, config.new_words)


def create_model(config: Config, vocabulary: text.Vocabulary, run: cli.Run) -> models.MaskedLM:
    """Load or create the model, and freeze what is not to be trained."""
    if not config.pretrained:
        sizes = models.small_bert_config(
            vocabulary.tokenizer,
            positions=config.sequence_length,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            hidden_dim=config.hidden_dim,
            dropout=config.dropout,
        )
        # BERT's 0.02 suits 768 units; with few, blocks would hardly see each other's words.
        sizes.initializer_range = config.hidden_dim**-0.5
        model = models.MaskedLM.from_config(sizes, objectives=config.shares(), seed=config.seed)
        models.attend_nearby(model.backbone)
        return model
    model = models.MaskedLM.from_pretrained(
        config.pretrained, objectives=config.shares(), seed=config.seed
    )
    most, length = model.max_positions, config.sequence_length
    rule = f"is above the {most} positions of {config.pretrained}"
    cli.require(length <= most, "sequence_length", length, rule)
    if vocabulary.sources:
        old = model.config.vocab_size
        model = model.with_vocabulary(vocabulary.sources, vocabulary.tokenizer)
        run.say(f"Vocabulary: {model.config.vocab_size - old:,} new words, {old:,} old ones.")
    heads = ("head",) if model.pair_head is None else ("head", "pair_head")
    changes = models.adapt(model, heads=heads, **config.adaptation())
    if changes:
        run.say(changes)
    return model


def publish(
    config: Config,
    model: models.MaskedLM,
    preprocess: text.Preprocessor,
    card: export.Card,
    name: str,
    folder: str,
) -> Path:
    """Export the model, proven, as the next version of a bundle."""
    return export.export_bundle(
        model.signatures(preprocess),
        folder,
        name,
        modules=[model, preprocess],
        probes=model.probes(preprocess),
        card=card,
        **config.export_options(),
    )


def masked_and_true(passage: str, mask: str) -> tuple[str, str]:
    """Hide every sixth of a text's first words, or of its first characters where it has no words.

    Returns:
        the text with masks, and as it was.
    """
    words, space = passage.split() or [""], " "
    # Chinese, say, is written without spaces. The median, because of addresses of pages.
    if statistics.median(map(len, words)) > 12:
        words, space = list("".join(words)), ""
    words = words[: 24 if space else 48]
    first = min(4, len(words) - 1)
    hidden = [mask if i % 6 == first else word for i, word in enumerate(words)]
    return space.join(hidden), space.join(words)


def filled(signatures: dict[str, Any], masked: str) -> str:
    """Fill a text's masks as the model now is."""
    return signatures["serving_default"]([masked])["text"].numpy()[0].decode()


if __name__ == "__main__":
    cli.main(Config, main, __file__)
