"""Masked pretraining's model: logits, heads and files beside transformers'."""

import json

import numpy as np
import pytest
import tensorflow as tf
import transformers
from transformers import AutoConfig, BertConfig

from tfllm.errors import InputError
from tfllm.models import MaskedLM, TextClassifier, TextEmbedder, TokenClassifier
from tfllm.models.backbones import load_backbone

SIZES = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
    "initializer_range": 0.5,
}
FAMILIES = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "distilbert": {"dim": 8, "hidden_dim": 16, "n_layers": 2, "n_heads": 2},
    "albert": {"embedding_size": 6},
    "electra": {"embedding_size": 6},
}
CLASSES = {
    "bert": "TFBertForMaskedLM",
    "roberta": "TFRobertaForMaskedLM",
    "xlm-roberta": "TFXLMRobertaForMaskedLM",
    "distilbert": "TFDistilBertForMaskedLM",
    "albert": "TFAlbertForMaskedLM",
    "electra": "TFElectraForMaskedLM",
}


def config_of(family: str, **changes):
    sizes = SIZES if family != "distilbert" else {}
    sizes = {**sizes, "vocab_size": 40, "max_position_embeddings": 24, "initializer_range": 0.5}
    return AutoConfig.for_model(family, **sizes | FAMILIES[family] | changes)


def bert(**changes) -> BertConfig:
    return config_of("bert", **changes)


def rows(pad_id: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    mask = (np.arange(9) < np.array([[9], [5], [1]])).astype(np.int32)
    ids = np.where(mask == 1, rng.integers(2, 40, [3, 9]), pad_id).astype(np.int32)
    return {"input_ids": ids, "attention_mask": mask}


def pairs() -> dict[str, np.ndarray]:
    features = rows()
    kinds = (np.arange(9) > 3).astype(np.int32) * features["attention_mask"]
    return {**features, "token_type_ids": kinds}


def assert_close(ours, theirs, real=...):
    ours, theirs = np.asarray(ours)[real], np.asarray(theirs)[real]
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def built(name: str, config):
    """A TF model of transformers without a weight of 0 or 1, where a mistake is not seen."""
    model = getattr(transformers, name)(config)
    model.build_in_name_scope()
    rng = np.random.default_rng(3)
    for variable in model.weights:
        variable.assign_add(0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_transformers(family, tmp_path):
    config = config_of(family)
    theirs = built(CLASSES[family], config)
    theirs.save_pretrained(tmp_path / "m", safe_serialization=True)
    ours = MaskedLM.from_pretrained(tmp_path / "m")
    features = rows(config.pad_token_id)
    real = features["attention_mask"].astype(bool)
    expected = theirs(features, training=False).logits.numpy()
    assert_close(ours(features), expected, real)
    places = np.array([[0, 3, 8], [4, 1, 0], [0, 0, 0]], np.int32)
    at_places = ours(features | {"masked_positions": places})
    assert_close(at_places, np.take_along_axis(expected, places[..., None], 1))
    # What is written is read back as it was.
    ours.save_pretrained(tmp_path / "again")
    again = MaskedLM.from_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(again(features), ours(features))


@pytest.mark.parametrize(
    ("family", "name", "objective"),
    [
        ("bert", "TFBertForPreTraining", "next_sentence"),
        ("albert", "TFAlbertForPreTraining", "sentence_order"),
    ],
)
def test_pairs_equal_transformers(family, name, objective, tmp_path):
    theirs = built(name, config_of(family))
    theirs.save_pretrained(tmp_path / "m", safe_serialization=True)
    ours = MaskedLM.from_pretrained(tmp_path / "m")
    assert dict(ours.objectives) == {"masked_lm": 1.0, objective: 1.0}
    features = pairs()
    expected = theirs(features, training=False)
    assert_close(ours(features), expected.prediction_logits, features["attention_mask"] == 1)
    assert_close(ours.pair_logits(features), expected[1])
    ours.save_pretrained(tmp_path / "again")
    again = MaskedLM.from_pretrained(tmp_path / "again")
    assert again.objectives == ours.objectives
    np.testing.assert_array_equal(again.pair_logits(features), ours.pair_logits(features))
    said = json.loads((tmp_path / "again" / "config.json").read_text())
    assert said["architectures"] == [name.removeprefix("TF")]


def test_an_untied_head_has_a_table_of_its_own(tmp_path):
    model = MaskedLM.from_config(bert(tie_word_embeddings=False))
    before = model(rows())
    model.save_pretrained(tmp_path / "m")
    np.testing.assert_array_equal(MaskedLM.from_pretrained(tmp_path / "m")(rows()), before)
    model.head.decoder.assign(2.0 * model.head.decoder)
    assert np.abs(model(rows()) - before).max() > 0.1


def test_a_checkpoint_without_heads_gets_new_ones_and_says_so(tmp_path, capsys):
    embedder = TextEmbedder.from_config(bert())
    embedder.save_pretrained(tmp_path / "m")
    model = MaskedLM.from_pretrained(tmp_path / "m", objectives=["masked_lm", "next_sentence"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" holds ")[1] for line in lines] == [
        "no head for masked words: it starts as a new one.",
        "no head for pairs: it starts as a new one.",
    ]
    assert model(rows()).shape == [3, 9, 40]
    np.testing.assert_array_equal(
        model.backbone.bert.pooler.dense.kernel, embedder.backbone.bert.pooler.dense.kernel
    )


def test_a_head_that_is_not_whole_is_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    MaskedLM.from_config(bert()).save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    tensors = load_file(path)
    del tensors["cls.predictions.bias"]
    save_file(tensors, path)
    with pytest.raises(InputError, match=r"without cls.predictions.bias"):
        MaskedLM.from_pretrained(tmp_path / "m")


def test_other_models_take_it_as_their_backbone(tmp_path):
    model = MaskedLM.from_config(bert(), objectives=("masked_lm", "next_sentence"))
    model.save_pretrained(tmp_path / "m")
    features = rows()
    expected = model.hidden_states(features)
    for other in (
        TextClassifier.from_pretrained(tmp_path / "m", labels=["a", "b"]),
        TokenClassifier.from_pretrained(tmp_path / "m", labels=["O", "B-X", "I-X"]),
        TextEmbedder.from_pretrained(tmp_path / "m"),
    ):
        again = MaskedLM(other.backbone).hidden_states(features)
        np.testing.assert_array_equal(again, expected)
    pooler = load_backbone(tmp_path / "m").bert.pooler.dense.kernel
    np.testing.assert_array_equal(pooler, model.backbone.bert.pooler.dense.kernel)


def test_a_pooler_that_nothing_trains_stays(tmp_path):
    trained = MaskedLM.from_config(bert(), objectives=("masked_lm", "sentence_order"))
    trained.save_pretrained(tmp_path / "m")
    model = MaskedLM.from_pretrained(tmp_path / "m", objectives=("masked_lm",))
    kernel = model.backbone.bert.pooler.dense.kernel
    assert all(variable is not kernel for variable in model.trainable_variables)
    model.save_pretrained(tmp_path / "again")
    saved = load_backbone(tmp_path / "again").bert.pooler.dense.kernel
    np.testing.assert_array_equal(saved, trained.backbone.bert.pooler.dense.kernel)
    assert MaskedLM.from_config(bert()).backbone.bert.pooler is None


def test_packed_segments_do_not_see_each_other():
    model = MaskedLM.from_config(bert())
    ids = np.array([[2, 7, 9, 3, 5, 6]], np.int32)
    segments = np.array([[1, 1, 1, 2, 2, 2]], np.int32)
    positions = np.array([[0, 1, 2, 0, 1, 2]], np.int32)
    packed = model({"input_ids": ids, "segment_ids": segments, "position_ids": positions})
    alone = model({"input_ids": ids.reshape(2, 3)})
    np.testing.assert_allclose(packed[0], tf.reshape(alone, [6, 40]), atol=1e-5)


def test_predictions_are_the_likeliest_words():
    model = MaskedLM.from_config(bert())
    features = rows() | {"masked_positions": np.array([[1, 2], [0, 3], [0, 0]], np.int32)}
    np.testing.assert_array_equal(
        model.predict_step((features,)), tf.argmax(model(features), axis=-1)
    )


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (("next_sentence",), "objectives must be masked_lm, and beside it one of"),
        (("masked_lm", "plot"), "Received: masked_lm, plot"),
        (("masked_lm", "next_sentence", "sentence_order"), "share one head"),
        ({"masked_lm": 0.0}, "must be above 0"),
    ],
)
def test_objectives_that_are_none(objectives, message):
    with pytest.raises(InputError, match=message):
        MaskedLM.from_config(bert(), objectives=objectives)


def test_families_without_such_a_head():
    with pytest.raises(InputError, match="RoBERTa has no head for pairs"):
        MaskedLM.from_config(config_of("roberta"), objectives=("masked_lm", "sentence_order"))
    config = AutoConfig.for_model("gpt2", n_embd=8, n_layer=1, n_head=2, vocab_size=40)
    with pytest.raises(InputError, match="GPT-2 has no head for masked words. Take one of: bert"):
        MaskedLM.from_config(config)
    with pytest.raises(InputError, match="this model judges no pairs"):
        MaskedLM.from_config(bert()).pair_logits(pairs())


def test_another_vocabulary():
    model = MaskedLM.from_config(bert(), objectives={"masked_lm": 1.0, "sentence_order": 0.5})
    model.head.bias.assign(np.linspace(-1, 1, 40).astype(np.float32))
    sources = [[i] for i in range(40)] + [[5, 7], [6]]
    grown = model.with_vocabulary(sources)
    assert grown.config.vocab_size == 42 and model.config.vocab_size == 40
    assert grown.objectives == model.objectives
    features = pairs()
    old, new = model(features), grown(features)
    np.testing.assert_allclose(new[..., :40], old, atol=1e-6)
    # Logits are linear in the table and in the bias.
    np.testing.assert_allclose(new[..., 40], (old[..., 5] + old[..., 7]) / 2, atol=1e-5)
    np.testing.assert_allclose(new[..., 41], old[..., 6], atol=1e-5)
    np.testing.assert_allclose(grown.pair_logits(features), model.pair_logits(features), atol=1e-6)
    with pytest.raises(InputError, match="sources name the word 40, and this model has 40"):
        model.with_vocabulary([[40]])


@pytest.mark.parametrize("family", ["roberta", "albert", "electra", "distilbert"])
def test_another_vocabulary_of_other_families(family, tmp_path):
    model = MaskedLM.from_config(config_of(family))
    grown = model.with_vocabulary([[i] for i in range(40)] + [[5, 7]])
    features = rows(model.config.pad_token_id)
    old = model(features)
    np.testing.assert_allclose(grown(features)[..., 40], (old[..., 5] + old[..., 7]) / 2, atol=1e-5)
    grown.save_pretrained(tmp_path / "m")
    again = MaskedLM.from_pretrained(tmp_path / "m")
    np.testing.assert_array_equal(again(features), grown(features))


def test_a_configuration_makes_the_same_kind_of_model():
    model = MaskedLM.from_config(bert(), objectives={"masked_lm": 1.0, "next_sentence": 0.5})
    again = MaskedLM.from_config(model.get_config())
    assert dict(again.objectives) == {"masked_lm": 1.0, "next_sentence": 0.5}
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
