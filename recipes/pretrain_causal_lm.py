"""Train a GPT-2 on text, from scratch or from a checkpoint, and export it for TF Serving.

    python recipes/pretrain_causal_lm.py
    python recipes/pretrain_causal_lm.py --train 'books/*.txt' --validation held_out.txt
    python recipes/pretrain_causal_lm.py --train notes.txt --pretrained gpt2 --learning_rate 1e-4

Without flags the text is the documentation that this Python carries.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfllm import cli, data, export, metrics, serving, text, training
from tfllm.models import checkpoint_files

if TYPE_CHECKING:
    from tfllm.models import CausalLM


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

    def check(self) -> None:
        """Refuse what no model from scratch can be."""
        super().check()
        require = cli.require
        require(self.num_layers >= 1, "num_layers", self.num_layers, "must be at least 1")
        require(self.num_heads >= 1, "num_heads", self.num_heads, "must be at least 1")
        require(
            self.hidden_dim >= 1 and self.hidden_dim % self.num_heads == 0,
            "hidden_dim",
            self.hidden_dim,
            f"must be a multiple of --num_heads {self.num_heads}",
        )
        require(0 <= self.dropout < 1, "dropout", self.dropout, "must be at least 0 and below 1")
        require(
            self.vocabulary_size >= 257, "vocabulary_size", self.vocabulary_size, "is below 257"
        )
        require(self.temperature >= 0, "temperature", self.temperature, "must not be negative")
        positions = self.sequence_length
        if self.pretrained:
            # Reads a small file; the weights are loaded when TensorFlow has started.
            found = checkpoint_files.read_config(self.pretrained, "gpt2")
            checkpoint_files.check_weights(self.pretrained)
            positions = found.get("n_positions", 1024)
            most = f"is above the {positions} positions of {self.pretrained}"
            require(
                self.sequence_length <= positions, "sequence_length", self.sequence_length, most
            )
        new = self.max_new_tokens
        rule = f"must be at least 1 and at most the model's {positions} positions"
        require(new is None or 1 <= new <= positions, "max_new_tokens", new, rule)


def main(config: Config, run: cli.Run) -> None:
    """Text in, SavedModel out."""
    # 1. Text. What can be refused is refused before TensorFlow is imported, which takes seconds.
    run.say(f"Reading {' '.join(config.train) or 'the documentation of this Python'} …")
    corpus = data.read_corpus(
        config.train,
        config.validation,
        config.test,
        unit=config.documents,
        validation_fraction=config.validation_fraction,
    )
    bundle_name = config.export_name or f"gpt2-{corpus.name}"
    export.check_name(bundle_name)

    # 2. Seed and devices
    run.say("Starting TensorFlow …")
    training.set_seed(config.seed)
    training.set_precision(config.precision)
    strategy = training.create_strategy(config.strategy)
    training.check_batch(config.global_batch_size, config.accumulate_steps, strategy)

    # 3. Model
    tokenizer = create_tokenizer(config, corpus)
    with strategy.scope():
        model = create_model(config, tokenizer)
    signatures = serving_functions(config, model, tokenizer)
    run.say(f"Model: {model.config.n_layer} layers, {model.count_params():,} parameters.")

    # 4. Data: each part is one stream of tokens on disk, cut into blocks
    for part, documents in corpus.parts():
        data.check_length(documents, tokenizer, config.sequence_length + 1, part)
    train = blocks(config, tokenizer, corpus.train, seed=config.seed)
    validation = blocks(config, tokenizer, corpus.validation)
    run.say(f"Text {corpus.name}: {train}. Held out: {validation}.")
    with strategy.scope():
        compile_model(config, model, config.total_steps(train.steps_per_epoch))
    if config.dry_run:
        row = train.batch(0)[0]["input_ids"][0]
        run.say(f"First row: {tokenizer.fast.decode(row, skip_special_tokens=False)!r}")
        return

    # 5. Fit, report each epoch, end with the best weights
    with run.timed("train"):
        fit(config, run, model, train, validation, sampler(signatures, corpus))
    run.metrics["gzip_bits_per_byte"] = metrics.gzip_bits_per_byte(corpus.validation)
    if corpus.test:
        run.metrics |= score(model, blocks(config, tokenizer, corpus.test), "test")

    # 6. Export, and try the bundle in a fresh process
    run.say("Exporting: the bundle is loaded back in a fresh process and compared …")
    with run.timed("export"):
        # An unfinished run that is resumed here may have got as far before.
        model.save_pretrained(run.directory / "model", tokenizer, overwrite=True)
        bundle = export.export_bundle(
            signatures,
            config.export_dir,
            bundle_name,
            modules=[model, tokenizer],
            probes=model.probes(),
        )
    run.export = str(bundle)
    show(run, bundle, corpus)


def create_tokenizer(config: Config, corpus: data.Corpus) -> text.Tokenizer:
    """Load the pretrained model's tokenizer, or train one on the training text."""
    if config.pretrained:
        return text.load(config.pretrained)
    return text.train_byte_level_bpe(corpus.train, config.vocabulary_size)


def blocks(
    config: Config,
    tokenizer: text.Tokenizer,
    documents: Iterable[str],
    seed: int | None = None,
) -> data.TokenBlocks:
    """Tokenize documents, once for all runs, and cut them into blocks."""
    return data.TokenBlocks(
        data.build_store(documents, tokenizer),
        sequence_length=config.sequence_length,
        global_batch_size=config.global_batch_size,
        seed=seed,
    )


def create_model(config: Config, tokenizer: text.Tokenizer) -> CausalLM:
    """Load the pretrained model, or create one with random weights."""
    from transformers import GPT2Config

    from tfllm.models import CausalLM

    if config.pretrained:
        return CausalLM.from_pretrained(config.pretrained, seed=config.seed)
    return CausalLM.from_config(
        GPT2Config(
            vocab_size=tokenizer.vocabulary_size,
            n_positions=config.sequence_length,
            n_embd=config.hidden_dim,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            bos_token_id=tokenizer.bos_id,
            eos_token_id=tokenizer.eos_id,
        ),
        seed=config.seed,
    )


def compile_model(config: Config, model: CausalLM, total_steps: int) -> None:
    """Give the model its optimizer: AdamW, warm-up, cosine."""
    from tfllm import optimization

    schedule = optimization.warmup_cosine(
        config.learning_rate or (5e-5 if config.pretrained else 2.5e-3),
        warmup_steps=config.warmup_steps,
        total_steps=total_steps,
    )
    optimizer = optimization.adamw(
        schedule, model.trainable_variables, weight_decay=config.weight_decay
    )
    model.compile(optimizer, accumulate_steps=config.accumulate_steps)


def serving_functions(config: Config, model: CausalLM, tokenizer: text.Tokenizer) -> dict[str, Any]:
    """Give what the bundle serves, text in and text out."""
    from tfllm.generation import Sampling

    sampling = Sampling(temperature=config.temperature, top_k=50)
    most = config.max_new_tokens or max(1, min(48, model.max_positions // 2))
    return model.signatures(tokenizer, max_new_tokens=most, sampling=sampling)


def fit(
    config: Config,
    run: cli.Run,
    model: CausalLM,
    train: data.TokenBlocks,
    validation: data.TokenBlocks,
    sample: Callable[[], tuple[str, str]],
) -> None:
    """Train in the run folder; the model ends with its best weights, the run with their numbers."""
    run_dir = run.open()
    measure = functools.partial(
        metrics.language_model, tokens=validation.targets, text_bytes=validation.text_bytes
    )
    report = training.LanguageModelReport(
        model, validation.dataset(), measure, sample, run_dir / "tensorboard"
    )
    trained = training.train(
        model,
        train.dataset,
        report,
        run_dir=run_dir,
        total_steps=config.total_steps(train.steps_per_epoch),
        steps_per_epoch=train.steps_per_epoch,
        tokens_per_step=config.global_batch_size * config.sequence_length,
        patience=config.early_stopping_patience,
        identity={
            "training text": train.store.manifest.source,
            "validation text": validation.store.manifest.source,
            "tokenizer": train.store.manifest.tokenizer,
        },
    )
    run.throughput = trained.tokens_per_second
    run.metrics |= measure(trained.best_loss)


def sampler(signatures: dict[str, Any], corpus: data.Corpus) -> Callable[[], tuple[str, str]]:
    """Give a function that continues the first validation prompt as the model then is."""
    prompt, _ = corpus.prompts(1)[0]

    def sample() -> tuple[str, str]:
        reply = signatures["serving_default"]([prompt])["text"]
        return prompt, reply.numpy()[0].decode()

    return sample


def score(model: CausalLM, part: data.TokenBlocks, name: str) -> dict[str, float]:
    """Measure the model on one part of the text."""
    loss = model.evaluate(part.dataset(), verbose=0, return_dict=True)["loss"]
    measured = metrics.language_model(loss, tokens=part.targets, text_bytes=part.text_bytes)
    return {f"{name}_{measure}": value for measure, value in measured.items()}


def show(run: cli.Run, bundle: Path, corpus: data.Corpus) -> None:
    """Print completions by the bundle in a fresh process, and the commands to go on with."""
    prompts = corpus.prompts(3)
    replies = serving.predict_in_fresh_process(bundle, [prompt for prompt, _ in prompts])
    run.say(f"\nThree unseen texts, continued by {bundle} in a fresh process:")
    for (prompt, truth), reply in zip(prompts, replies, strict=True):
        run.say(f"\n  Prompt:    … {one_line(prompt)[-100:]}")
        run.say(f"  Bundle:    {one_line(reply)}")
        run.say(f"  True text: {one_line(truth)[: max(80, len(reply))]} …")
    run.say(f"\nWatch:  {serving.tensorboard_line(run.directory / 'tensorboard')}")
    run.say(f"\nServe:  {serving.docker_run_line(bundle)}")
    run.say(f"\nAsk:    {serving.curl_line(bundle.parent.name, [prompts[0][0]])}\n")


def one_line(words: str) -> str:
    """Put a text on one line."""
    return " ".join(words.split())


if __name__ == "__main__":
    cli.main(Config, main, __file__)
