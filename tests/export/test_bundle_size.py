"""A bundle takes its weights, its vocabulary, and little else; no weight lies in it twice."""

import pytest
from transformers import GPT2Config

from tfllm import models, text
from tfllm.export import Card, export_bundle

WORDS = ["the cat sat on the mat and a dog saw the old house", "who saw the cat?"] * 3
BESIDE = 8_000_000
"""Bytes that a bundle may take beside weights and vocabulary: graph, warm-up, model card."""


def classifier():
    tokenizer = text.train_wordpiece(WORDS, 60)
    config = models.small_bert_config(
        tokenizer, positions=32, num_layers=2, num_heads=2, hidden_dim=512, dropout=0.0
    )
    model = models.TextClassifier.from_config(config, labels=["bad", "good"])
    return model, text.Preprocessor(tokenizer, sequence_length=32)


def language_model():
    tokenizer = text.train_byte_level_bpe(WORDS, 280)
    config = GPT2Config(vocab_size=40_000, n_positions=16, n_embd=128, n_layer=1, n_head=2)
    return models.CausalLM.from_config(config), tokenizer


def bytes_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("create", "names", "storage"),
    [
        (language_model, ["serving_default"], "float16"),
        pytest.param(classifier, [], "float32", marks=pytest.mark.slow),
        pytest.param(classifier, [], "float16", marks=pytest.mark.slow),
        pytest.param(language_model, [], "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_a_bundle_is_weights_and_vocabulary_and_little_more(tmp_path, create, names, storage):
    model, words = create()
    signatures, probes = model.signatures(words), model.probes()
    if names:  # few signatures and short texts, for the sake of time
        probes = {name: {"text": WORDS[:2]} for name in names}
    names = names or list(signatures)
    version = export_bundle(
        {name: signatures[name] for name in names},
        tmp_path,
        "sized",
        modules=[model, words],
        probes=probes,
        card=Card(),
        storage=storage,
    )
    vocabulary = bytes_of(version / "assets")
    assert vocabulary > 0
    stored = (4 if storage == "float32" else 2) * model.count_params()
    assert stored > BESIDE  # a second copy would not pass
    assert bytes_of(tmp_path / "sized") <= stored + vocabulary + BESIDE
