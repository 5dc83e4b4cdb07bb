"""Two workers train a GPT-2 of one layer and report by generation, for test_generation_report."""

from __future__ import annotations

import dataclasses

from tfllm import cli

PROMPTS = ["one two |", "three |", "four five six |", "seven |"]


@dataclasses.dataclass(frozen=True)
class Config(cli.CommonConfig):
    pass


def main(config: Config, run: cli.Run) -> None:
    run.say("Starting TensorFlow …")
    from transformers import GPT2Config

    from tfllm import data, metrics, models, text, training
    from tfllm.data.encoders.completion_encoder import CompletionEncoder
    from tfllm.data.pipeline_packed_rows import PackedRows
    from tfllm.data.templates import PairTemplate, Template

    training.set_seed(config.seed)
    strategy = training.create_strategy(config.strategy)
    tokenizer = text.train_byte_level_bpe(PROMPTS * 3, 280)
    sizes = GPT2Config(vocab_size=280, n_positions=32, n_embd=8, n_layer=1, n_head=2)
    with strategy.scope():
        model = models.CausalLM.from_config(sizes)
        model.compile(optimizer="sgd")
    template = PairTemplate(Template("{text}"), Template(" {label}"))
    encoder = CompletionEncoder(data.FastTokenizer.of(tokenizer), template, max_tokens=24)
    examples = [{"text": prompt, "label": prompt.split()[0]} for prompt in PROMPTS]
    store = data.build_array_store(examples, encoder)
    calls = []

    def generate(prompts: list[str]) -> list[str]:
        calls.append(len(prompts))
        ids = model.generate(tokenizer.tokenize(prompts), max_new_tokens=3)
        return [one.decode() for one in tokenizer.detokenize(ids).numpy()]

    def measure(predictions, references, *, loss):
        return metrics.generation(["exact_match", "perplexity"], predictions, references, loss=loss)

    packed = PackedRows(store, sequence_length=24, global_batch_size=2)
    report = training.GenerationReport(
        model,
        packed,
        generate,
        measure,
        run.directory / "tensorboard",
        prompts=PROMPTS,
        references=[example["label"] for example in examples],
        predictions_path=run.directory / "predictions.jsonl",
    )
    steps = 2 * packed.steps_per_epoch
    trained = training.train_task(model, packed, report, run_dir=run.open(), total_steps=steps)
    assert bool(calls) == run.is_chief
    run.add(trained)
    run.say(f"Done with {sorted(trained.best)}.")


if __name__ == "__main__":
    cli.main(Config, main, __file__)
