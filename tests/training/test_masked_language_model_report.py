"""What masked pretraining's validation prints and draws, of a real model on real batches."""

from contextlib import contextmanager

import pytest
import tensorflow as tf
import tf_keras as keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfllm import data, text, training
from tfllm.models import MaskedLM, small_bert_config

DOCUMENTS = [
    "\n".join(f"line {n + i} of text {n}\nand a word, {'yes' * (i % 2)}" for i in range(4))
    for n in range(12)
]
SHARES = {"masked_lm": 1.0, "next_sentence": 0.5}
SAMPLE = ("a [MASK] of\ttext\n and", "a word of\ttext\n and")


@pytest.fixture(scope="module")
def tokenizer() -> text.Tokenizer:
    return text.train_wordpiece(DOCUMENTS, 120)


def new_model(tokenizer, objectives=SHARES) -> MaskedLM:
    keras.utils.set_random_seed(3)
    sizes = small_bert_config(
        tokenizer, positions=32, num_layers=1, num_heads=2, hidden_dim=8, dropout=0.3
    )
    sizes.initializer_range = 0.5  # so that it says different things of different words
    return MaskedLM.from_config(sizes, objectives=objectives)


def batches_of(tokenizer, folder, monkeypatch, objectives=SHARES):
    monkeypatch.setenv("TFLLM_CACHE_DIR", str(folder / "stores"))
    return data.masked_batches(
        DOCUMENTS, tokenizer, objectives=objectives, sequence_length=32, global_batch_size=5
    )


def events_of(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def test_a_report_as_a_whole(tokenizer, tmp_path, monkeypatch, capsys):
    model, batches = new_model(tokenizer), batches_of(tokenizer, tmp_path, monkeypatch)
    report = training.MaskedLanguageModelReport(
        model, batches, lambda: SAMPLE, tmp_path / "tensorboard"
    )
    results = report(2, 30)
    model.compile("sgd")
    wanted = model.evaluate(batches.dataset(), verbose=0, return_dict=True)
    perplexity = float(tf.exp(wanted["masked_lm_loss"]))
    assert results == pytest.approx(wanted | {"masked_perplexity": perplexity}, rel=1e-4)
    names = [f"{name}_{end}" for name in SHARES for end in ("loss", "accuracy")]
    assert list(results) == ["loss", *names, "masked_perplexity"]
    assert report.evaluate() == results == report.newest

    facts, sample = capsys.readouterr().out.splitlines()
    assert facts == "Epoch 2, step 30: validation " + ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}" for name, value in results.items()
    )
    assert sample == "    sample: a [MASK] of text and ▸ a word of text and"

    events = events_of(tmp_path / "tensorboard" / "validation")
    assert set(events.Tags()["tensors"]) == {*results, "sample"}
    for name, value in results.items():
        (event,) = events.Tensors(name)
        assert event.step == 30
        assert float(tf.make_ndarray(event.tensor_proto)) == pytest.approx(value, rel=1e-6)
    drawn = tf.make_ndarray(events.Tensors("sample")[0].tensor_proto).item().decode()
    assert all(part in drawn for part in SAMPLE)


def test_measured_within_and_never_an_infinite_number(tokenizer, tmp_path, monkeypatch, capsys):
    one = {"masked_lm": 1.0}
    model = new_model(tokenizer, one)
    batches = batches_of(tokenizer, tmp_path, monkeypatch, one)
    bias = next(v for v in model.head.weights if v.shape == [tokenizer.vocabulary_size])

    @contextmanager
    def sure_of_the_mask():
        kept = bias.numpy()
        bias.assign(keras.utils.to_categorical(tokenizer.mask_id, len(kept)) * 1e4)
        yield
        bias.assign(kept)

    def report(**options):
        folder = tmp_path / "tensorboard"
        return training.MaskedLanguageModelReport(model, batches, lambda: SAMPLE, folder, **options)

    before = report().evaluate()
    sure = report(measured_within=sure_of_the_mask).evaluate()
    assert sure["masked_lm_accuracy"] == 0.0 and sure["loss"] > 1000
    assert sure["masked_perplexity"] == pytest.approx(2.718281828**700, rel=1e-3)
    assert report().evaluate() == before and before["masked_perplexity"] < 1e6
    assert not (tmp_path / "tensorboard").exists() and not capsys.readouterr().out
