"""A family counts once text goes in and labels come out of its bundle."""

import pytest

from tfllm.export import export_bundle
from tfllm.models.text_classifier import TextClassifier
from tfllm.serving import Session
from tfllm.text import Preprocessor, train_wordpiece


@pytest.mark.slow
def test_text_in_labels_out(fresh, tmp_path):
    tokenizer = train_wordpiece(["the cat sat on the mat and a dog saw the old house"], 50)
    model = TextClassifier(fresh, labels=["bad", "good"])
    preprocess = Preprocessor(tokenizer, sequence_length=16)
    bundle = export_bundle(
        model.signatures(preprocess),
        tmp_path,
        fresh.config.model_type,
        modules=[model, preprocess],
        probes=model.probes(),
    )
    with Session(bundle) as session:
        answer = session.run("serving_default", {"text": ["the cat sat", ""]})
    assert set(answer["label"].tolist()) <= {b"bad", b"good"}
    assert answer["scores"].sum(axis=1) == pytest.approx([1.0, 1.0])
