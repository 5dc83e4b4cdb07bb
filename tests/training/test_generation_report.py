"""What a generator's validation prints, draws and writes, of a real model on real batches."""

import functools
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import GPT2Config

from tfllm import data, metrics, text, training
from tfllm.data.encoders.completion_encoder import CompletionEncoder
from tfllm.data.pipeline_packed_rows import PackedRows
from tfllm.data.templates import PairTemplate, Template
from tfllm.errors import InputError
from tfllm.models import CausalLM

WORDS = ["one", "two", "three", "four", "five", "six", "seven"]
PROMPTS = ["".join(f"{word} " for word in WORDS[: 1 + n % 5]) + "|" for n in range(11)]
REFERENCES: list[str | list[str]] = [f"{WORDS[n % 7]}\nof _{n}_" for n in range(11)]
REFERENCES[3] = ["four", "4"]
MEASURE = functools.partial(metrics.generation, ["chrf", "distinct", "perplexity"])


@pytest.fixture(scope="module")
def tokenizer() -> text.Tokenizer:
    return text.train_byte_level_bpe(PROMPTS, 300)


def new_model(tokenizer) -> CausalLM:
    keras.utils.set_random_seed(3)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=64, n_embd=8, n_layer=1, n_head=2
    )
    model = CausalLM.from_config(config)
    rng = np.random.default_rng(5)
    for variable in model.weights:  # so that it says different things of different prompts
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model(tokenizer) -> CausalLM:
    return new_model(tokenizer)


@pytest.fixture
def batches(tokenizer, tmp_path) -> data.PackedDocuments:
    store = data.build_store(PROMPTS, tokenizer, cache_dir=tmp_path / "stores")
    return data.PackedDocuments(store, sequence_length=16, global_batch_size=3)


@functools.cache  # so that a model's graph is built once
def generator(model, tokenizer):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def complete(prompts: tf.Tensor) -> tf.Tensor:
        ids = model.generate(tokenizer.tokenize(prompts), max_new_tokens=5, eos_id=tokenizer.eos_id)
        return tokenizer.detokenize(ids)

    return lambda prompts: [one.decode() for one in complete(tf.constant(prompts)).numpy()]


def report_of(model, tokenizer, batches, folder, **options) -> training.GenerationReport:
    arguments = {"prompts": PROMPTS, "references": REFERENCES} | options
    return training.GenerationReport(
        model, batches, generator(model, tokenizer), MEASURE, folder / "tensorboard", **arguments
    )


def events_of(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def test_a_report_as_a_whole(model, tokenizer, batches, tmp_path, capsys):
    path = tmp_path / "predictions.jsonl"
    report = report_of(
        model, tokenizer, batches, tmp_path, batch_size=4, shown=3, predictions_path=path
    )
    results = report(2, 30)
    model.compile(optimizer="sgd")
    loss = model.evaluate(batches.dataset(), verbose=0, return_dict=True)["loss"]
    assert results["loss"] == pytest.approx(loss, rel=1e-5)
    alone = [generator(model, tokenizer)([prompt])[0] for prompt in PROMPTS]
    assert len(set(alone)) > 3
    assert results == {"loss": results["loss"]} | MEASURE(alone, REFERENCES, loss=results["loss"])

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"prompt": prompt, "reference": reference, "predicted": predicted}
        for prompt, reference, predicted in zip(PROMPTS, REFERENCES, alone, strict=True)
    ]
    facts, sample = capsys.readouterr().out.splitlines()
    assert facts.startswith(f"Epoch 2, step 30: validation loss {results['loss']:.3f}, chrf ")
    assert sample == f"    sample: one | ▸ {' '.join(alone[0].split())}"

    events = events_of(tmp_path / "tensorboard" / "validation")
    assert set(events.Tags()["tensors"]) == {*results, "samples"}
    for name, value in results.items():
        (event,) = events.Tensors(name)
        assert event.step == 30
        assert float(tf.make_ndarray(event.tensor_proto)) == pytest.approx(value, rel=1e-6)
    table = tf.make_ndarray(events.Tensors("samples")[0].tensor_proto).item().decode()
    rows = table.splitlines()
    assert rows[0] == "| prompt | reference | generated |" and len(rows) == 2 + 3
    assert rows[3].startswith("| one two three four &#124; | four<br>4 | ")


@pytest.mark.parametrize("batch_size", [1, 32])
def test_batches_change_nothing(model, tokenizer, batches, tmp_path, batch_size):
    report = report_of(model, tokenizer, batches, tmp_path, batch_size=batch_size)
    wanted = report_of(model, tokenizer, batches, tmp_path, batch_size=5).evaluate()
    assert report.evaluate() == wanted and report.newest == wanted


def test_a_sample_of_the_prompts(model, tokenizer, batches, tmp_path):
    path = tmp_path / "predictions.jsonl"
    report = report_of(model, tokenizer, batches, tmp_path, at_most=4, predictions_path=path)
    whole = report_of(model, tokenizer, batches, tmp_path).evaluate()
    results = report.evaluate()
    assert results["loss"] == whole["loss"] and results["distinct_1"] != whole["distinct_1"]
    shown = [json.loads(line)["reference"] for line in path.read_text().splitlines()]
    assert shown == [REFERENCES[i] for i in (0, 2, 5, 8)]
    assert not (tmp_path / "tensorboard").exists()


def test_measured_within(model, tokenizer, batches, tmp_path):
    plain = report_of(model, tokenizer, batches, tmp_path).evaluate()
    table = model.backbone.transformer.wte.embeddings

    @contextmanager
    def other_weights():
        kept = table.numpy()
        table.assign(kept[::-1])
        yield
        table.assign(kept)

    report = report_of(model, tokenizer, batches, tmp_path, measured_within=other_weights)
    other = report.evaluate()
    assert abs(other["loss"] - plain["loss"]) > 1e-3
    assert report_of(model, tokenizer, batches, tmp_path).evaluate() == plain


@pytest.mark.slow
def test_a_mirrored_model(model, tokenizer, batches, tmp_path):
    """Two devices of one process: the loss is that of one."""
    plain = report_of(model, tokenizer, batches, tmp_path).evaluate()
    with tf.distribute.MirroredStrategy(["cpu:0"]).scope():
        mirrored = new_model(tokenizer)
    assert report_of(mirrored, tokenizer, batches, tmp_path).evaluate() == pytest.approx(plain)


def test_training_ends_with_the_best_weights_and_their_texts(tokenizer, tmp_path):
    model = new_model(tokenizer)
    template = PairTemplate(Template("{text}"), Template(" {label}"))
    examples = [{"text": text, "label": text.split()[-2]} for text in PROMPTS]
    encoder = CompletionEncoder(data.FastTokenizer.of(tokenizer), template, max_tokens=16)

    def packed(copies: int, seed: int | None = None) -> PackedRows:
        store = data.build_array_store(examples * copies, encoder, cache_dir=tmp_path / "stores")
        return PackedRows(store, sequence_length=16, global_batch_size=2, seed=seed)

    questions = [question for one in examples for question in template.questions(one)]
    path = tmp_path / "validation_predictions.jsonl"
    report = training.GenerationReport(
        model,
        packed(1),
        generator(model, tokenizer),
        functools.partial(metrics.generation, ["exact_match", "distinct"]),
        tmp_path / "tensorboard",
        prompts=[question.prompt for question in questions],
        references=[question.reference for question in questions],
        predictions_path=path,
    )
    model.compile(optimizer=keras.optimizers.Adam(0.02))
    train = packed(10, seed=7)
    trained = training.train_task(
        model,
        train,
        report,
        run_dir=tmp_path,
        total_steps=4 * train.steps_per_epoch,
        # The first epoch is the "best", so that its weights and texts must come back.
        best_metric=training.BestMetric("exact_match", higher_is_better=False),
    )
    events = events_of(tmp_path / "tensorboard" / "validation")
    every = [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors("exact_match")]
    assert len(every) == 4 and every[-1] > every[0] + 30
    assert trained.best["exact_match"] == pytest.approx(every[0])
    assert report.newest == pytest.approx(trained.best)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    right = sum(line["reference"] == line["predicted"].strip() for line in lines)
    assert 100 * right / len(lines) == trained.best["exact_match"]
    assert report.evaluate() == pytest.approx(trained.best)


@pytest.mark.slow
def test_two_workers_of_which_the_chief_generates(tmp_path):
    here = Path(__file__).parent
    launcher = here.parent.parent / "recipes" / "launch_workers.py"
    flags = ["--network", "host", "--max_restarts", "0", "--", here / "generation_workers.py"]
    command = [sys.executable, launcher, *flags, "--run_dir", "r"]
    done = subprocess.run(
        [*map(str, command)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[0] Done with ['exact_match', 'loss', 'perplexity']" in done.stdout
    assert len((tmp_path / "r" / "predictions.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": [], "references": []}, "at least one. Received: 0 and 0"),
        ({"prompts": ["a"]}, "equally many, and at least one. Received: 1 and 11"),
    ],
)
def test_refusals(model, tokenizer, batches, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        report_of(model, tokenizer, batches, tmp_path, **options)
