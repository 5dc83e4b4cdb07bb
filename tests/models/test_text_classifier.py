import functools
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from transformers import (
    AutoConfig,
    BertConfig,
    GPT2Config,
    PretrainedConfig,
    RobertaConfig,
    TFAutoModelForSequenceClassification,
)
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.models.backbones import create_backbone
from tfllm.models.text_classifier import TextClassifier
from tfllm.models.text_embedder import TextEmbedder
from tfllm.serving import Session
from tfllm.text import ByteLevelBPE, Preprocessor, WordPiece, train_byte_level_bpe, train_wordpiece

WORDS = "the cat sat on the mat and a dog saw the old house by the sea"
LABELS = ("bad", "fair", "good")


def bert_config(**changes) -> BertConfig:
    return BertConfig(
        **{
            "vocab_size": 120,
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 24,
            "initializer_range": 0.5,
        }
        | changes
    )


def new_model(config: PretrainedConfig | None = None, **arguments) -> TextClassifier:
    keras.utils.set_random_seed(2)
    arguments = {"labels": LABELS} | arguments
    model = TextClassifier(create_backbone(config or bert_config()), **arguments)
    for weight in model.head.weights:  # beside it, transformers' own is too small to see
        weight.assign(tf.random.normal(weight.shape, seed=3))
    return model


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return train_wordpiece([WORDS, WORDS.upper(), "0 1 2 日本"] * 2, 120)


@pytest.fixture(scope="module")
def model() -> TextClassifier:
    return new_model()


def features(rows: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    lengths = 2 + np.arange(rows) % 5
    return {
        "input_ids": rng.integers(5, 50, (rows, 6)).astype(np.int32),
        "attention_mask": (np.arange(6) < lengths[:, None]).astype(np.int32),
        "token_type_ids": rng.integers(0, 2, (rows, 6)).astype(np.int32),
    }


class TestLoss:
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]], np.float32)

    def of(self, targets, weights, **arguments):
        model = new_model(**arguments)
        logits = self.logits[:, : len(model.labels)]
        loss, weight = model.loss_of(
            tf.constant(logits), {}, tf.constant(targets), tf.constant(weights)
        )
        return float(loss), float(weight)

    def test_single_label(self):
        shares = np.exp(self.logits) / np.exp(self.logits).sum(axis=1, keepdims=True)
        losses = -np.log([shares[0, 1], shares[1, 2]])
        assert self.of([1, 2], [1.0, 0.5]) == pytest.approx((losses[0] + 0.5 * losses[1], 1.5))
        weighted = self.of([1, 2], [1.0, 0.5], class_weights=[5.0, 2.0, 4.0])
        assert weighted == pytest.approx((2 * losses[0] + 0.5 * 4 * losses[1], 4.0))

    def test_multi_label(self):
        targets = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], np.float32)
        scores = 1 / (1 + np.exp(-self.logits))
        losses = -np.log(np.where(targets == 1, scores, 1 - scores))
        found = self.of(targets, [1.0, 0.5], kind="multi_label")
        assert found == pytest.approx(((losses * [[1.0], [0.5]]).sum(), 4.5))
        # As a training step gives them, a weight for each element.
        wide = np.repeat(np.array([[1.0], [0.5]], np.float32), 3, axis=1)
        assert self.of(targets, wide, kind="multi_label") == pytest.approx(found)
        weighted = self.of(targets, wide, kind="multi_label", class_weights=[2.0, 1.0, 0.0])
        assert weighted == pytest.approx(((losses * wide * [2.0, 1.0, 0.0]).sum(), 4.5))

    def test_regression(self):
        found = self.of([1.0, 2.0], [1.0, 0.5], kind="regression", labels=())
        assert found == pytest.approx((1.0 + 0.5 * 4.0, 1.5))

    def test_large_logits_stay_finite(self):
        model = new_model()
        logits = tf.constant([[1e4, 0.0, -1e4]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss, _ = model.loss_of(logits, {}, tf.constant([2]), tf.constant([1.0]))
        assert float(loss) == pytest.approx(2e4)
        np.testing.assert_allclose(tape.gradient(loss, logits), [[1.0, 0.0, -1.0]], atol=1e-6)


class TestDecode:
    def test_single_label(self, model):
        scores = model.decode(tf.constant([[0.0, np.log(2.0), 0.0]]), {})["scores"]
        np.testing.assert_allclose(scores, [[0.25, 0.5, 0.25]], rtol=1e-6)

    def test_multi_label(self):
        model = new_model(kind="multi_label")
        scores = model.decode(tf.constant([[0.0, np.log(3.0), -np.log(3.0)]]), {})["scores"]
        np.testing.assert_allclose(scores, [[0.5, 0.75, 0.25]], rtol=1e-6)

    def test_regression(self):
        model = new_model(kind="regression", labels=())
        assert model.decode(tf.constant([[2.5]]), {})["score"].numpy().tolist() == [2.5]

    def test_evidence_is_the_log_odds(self, model):
        logits = tf.constant([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
        share = tf.gather(tf.nn.softmax(logits), [1, 2], batch_dims=1)
        wanted = tf.math.log(share / (1 - share))
        np.testing.assert_allclose(model.evidence(logits, [1, 2]), wanted, rtol=1e-5)
        many = new_model(kind="multi_label")
        np.testing.assert_array_equal(many.evidence(logits, 1), [-1.0, 1.0])


@pytest.mark.parametrize(
    "kind",
    [
        "multi_label",
        pytest.param("single_label", marks=pytest.mark.slow),
        pytest.param("regression", marks=pytest.mark.slow),
    ],
)
def test_fit_learns_a_batch_by_heart(kind):
    model = new_model(
        bert_config(initializer_range=0.2, num_hidden_layers=1),
        kind=kind,
        labels=LABELS[: 1 if kind == "regression" else 3],
    )
    rng = np.random.default_rng(0)
    targets = {
        "single_label": rng.integers(0, 3, 8),
        "multi_label": rng.integers(0, 2, (8, 3)).astype(np.float32),
        "regression": rng.normal(size=8).astype(np.float32),
    }[kind]
    batch = (features(8), targets, np.ones([8], np.float32))
    model.compile(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors(batch).repeat(80)
    losses = model.fit(data, verbose=0, epochs=2, steps_per_epoch=40).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert model.evaluate(data.take(1), verbose=0) < 0.3 * losses[0]


def test_loss_and_predictions_are_of_one_pass(model):
    batch = features()
    logits = model.forward(batch)
    targets, weights = tf.constant([0, 1, 2, 0]), tf.ones([4])
    loss, weight = model.loss_of(logits, batch, targets, weights)
    again, same = model.loss_sum_and_weight(batch, targets, weights, training=False)
    assert float(loss) == pytest.approx(float(again)) and float(weight) == float(same) == 4.0
    np.testing.assert_allclose(
        model.predict_step((batch,))["scores"], model.decode(logits, batch)["scores"], atol=1e-6
    )


def test_dropout_follows_the_seed(model):
    def logits(seed):
        return model.forward(features(), training=True, dropout_seed=tf.constant(seed, tf.int64))

    np.testing.assert_array_equal(logits([0, 1]), logits([0, 1]))
    assert np.abs(logits([0, 1]) - logits([0, 2])).max() > 1e-3


def test_logits_equal_transformers(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    config = AutoConfig.from_pretrained(tmp_path / "m")
    reference = TFAutoModelForSequenceClassification.from_config(config)
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    load_pytorch_state_dict_in_tf2_model(reference, tensors, allow_missing_keys=False)
    np.testing.assert_allclose(model(features()), reference(features()).logits, atol=1e-5)
    assert reference.config.id2label == dict(enumerate(LABELS))


class TestFolders:
    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"kind": "multi_label", "thresholds": [0.2, 0.5, 0.8]},
            {"kind": "multi_label", "labels": ["only"], "thresholds": 0.25},
            {"kind": "regression", "labels": ["similarity"]},
        ],
    )
    def test_what_is_saved_comes_back(self, tokenizer, tmp_path, arguments):
        model = new_model(**arguments)
        model.save_pretrained(tmp_path / "m", tokenizer)
        again = TextClassifier.from_pretrained(tmp_path / "m")
        np.testing.assert_array_equal(again(features()), model(features()))
        assert (again.labels, again.kind) == (model.labels, model.kind)
        assert again.thresholds == model.thresholds
        same = TextClassifier.from_config(model.get_config())
        assert (same.labels, same.kind) == (model.labels, model.kind)
        assert same.thresholds == model.thresholds
        assert [w.shape for w in same.weights] == [w.shape for w in model.weights]

    def test_config_says_what_transformers_reads(self, tmp_path):
        new_model(kind="multi_label").save_pretrained(tmp_path / "m")
        config = json.loads((tmp_path / "m" / "config.json").read_text())
        assert config["architectures"] == ["BertForSequenceClassification"]
        assert config["id2label"] == {"0": "bad", "1": "fair", "2": "good"}
        assert config["label2id"] == {"bad": 0, "fair": 1, "good": 2}
        assert config["problem_type"] == "multi_label_classification"
        assert config["tfllm_thresholds"] == [0.5, 0.5, 0.5]

    def test_thresholds_may_be_set_later(self, tmp_path):
        model = new_model(kind="multi_label")
        model.thresholds = [0.1, 0.2, 0.3]
        model.save_pretrained(tmp_path / "m")
        assert TextClassifier.from_pretrained(tmp_path / "m").thresholds == (0.1, 0.2, 0.3)

    def test_the_given_thresholds_go_first(self, tmp_path):
        new_model(kind="multi_label").save_pretrained(tmp_path / "m")
        again = TextClassifier.from_pretrained(tmp_path / "m", thresholds=0.7)
        assert again.thresholds == (0.7, 0.7, 0.7)

    def test_a_backbone_alone_gets_a_new_head(self, tmp_path):
        embedder = TextEmbedder(new_model().backbone)
        embedder.save_pretrained(tmp_path / "m")
        with pytest.raises(InputError, match="holds no classifier.*needs labels"):
            TextClassifier.from_pretrained(tmp_path / "m")
        model = TextClassifier.from_pretrained(tmp_path / "m", labels=["no", "yes"])
        assert model.labels == ("no", "yes") and model.kind == "single_label"
        # 2 embeddings' worth of random numbers, and no weight of the folder lost.
        ids = np.array([[2, 7, 3]], np.int32)
        again = TextEmbedder(model.backbone)
        np.testing.assert_array_equal(again(ids), embedder(ids))
        number = TextClassifier.from_pretrained(tmp_path / "m", kind="regression")
        assert number.labels == ("score",)

    def test_nothing_of_the_head_before_stays(self, tmp_path):
        new_model(kind="multi_label").save_pretrained(tmp_path / "m")
        number = TextClassifier.from_pretrained(tmp_path / "m", kind="regression", new_head=True)
        number.save_pretrained(tmp_path / "n")
        for again in (
            TextClassifier.from_pretrained(tmp_path / "n"),
            TextClassifier.from_config(number.get_config()),
        ):
            assert (again.kind, again.thresholds) == ("regression", ())
        TextEmbedder(number.backbone).save_pretrained(tmp_path / "e")
        config = json.loads((tmp_path / "e" / "config.json").read_text())
        assert not {"id2label", "problem_type", "tfllm_thresholds"} & set(config)

    def test_another_heads_labels_are_refused(self, model, tmp_path):
        model.save_pretrained(tmp_path / "m")
        assert TextClassifier.from_pretrained(tmp_path / "m", labels=LABELS).labels == LABELS
        with pytest.raises(
            InputError, match="classifier of bad, fair, good, and labels are no, yes"
        ):
            TextClassifier.from_pretrained(tmp_path / "m", labels=["no", "yes"])
        with pytest.raises(InputError, match="a single_label classifier, and kind is multi_label"):
            TextClassifier.from_pretrained(tmp_path / "m", kind="multi_label")

    def test_nothing_is_overwritten(self, model, tmp_path):
        model.save_pretrained(tmp_path / "m")
        with pytest.raises(InputError, match="exists already"):
            model.save_pretrained(tmp_path / "m")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["one"]}, "at least 2 classes. Received: one"),
        ({"labels": []}, "at least 2 classes. Received: none"),
        ({"labels": [], "kind": "multi_label"}, "at least 1 classes"),
        ({"labels": ["a", "b", "a"]}, "must differ. Received: 'a' more than once"),
        ({"labels": ["a", 1]}, "must be names. Received: 1"),
        ({"labels": ["a", ""]}, "must be names. Received: ''"),
        ({"kind": "several"}, "kind must be one of single_label, multi_label, regression"),
        ({"kind": "regression"}, "one number, not classes. Received: labels bad, fair, good"),
        ({"class_weights": [1.0, 2.0]}, "each of the 3 classes bad, fair, good. Received: 2"),
        ({"class_weights": [1.0, -2.0, 1.0]}, "0 or more.*Received: 1.0, -2.0, 1.0"),
        ({"class_weights": [0.0, 0.0, 0.0]}, "not all 0"),
        ({"class_weights": [1.0, float("nan"), 0.0]}, "0 or more"),
        ({"kind": "regression", "labels": (), "class_weights": [1.0]}, "regression has none"),
        ({"kind": "multi_label", "thresholds": [0.5, 0.5]}, "each of the 3 classes.*Received: 2"),
        ({"kind": "multi_label", "thresholds": [0.5, 0.5, 1.0]}, "both excluded.*0.5, 0.5, 1.0"),
        ({"kind": "multi_label", "thresholds": 0.0}, "both excluded"),
        ({"thresholds": 0.5}, "are for kind='multi_label'. Received: kind='single_label'"),
    ],
)
def test_what_makes_no_classifier_is_refused(model, arguments, message):
    with pytest.raises(InputError, match=message):
        TextClassifier(model.backbone, **{"labels": LABELS} | arguments)


class TestServed:
    """Each bundle passes the gate, which asks it everything that the model in memory was asked."""

    def export(self, model, preprocess, folder, **arguments):
        pair = arguments.get("pair", False)
        return export_bundle(
            model.signatures(preprocess, **arguments),
            folder,
            "tiny",
            modules=[model, preprocess],
            probes=model.probes(pair=pair),
        )

    @pytest.mark.slow
    def test_single_label(self, model, tokenizer, tmp_path):
        preprocess = Preprocessor(tokenizer, sequence_length=16)
        texts = ["the cat sat", "sea", "a dog saw the old house"]
        with Session(self.export(model, preprocess, tmp_path)) as session:
            answer = session.run("serving_default", {"text": texts})
            tokens = session.run("tokens", session.run("tokenize", {"text": texts}))
        wanted = tf.nn.softmax(model(preprocess(texts))).numpy()
        np.testing.assert_allclose(answer["scores"], wanted, atol=1e-5)
        assert answer["classes"].tolist() == [[b"bad", b"fair", b"good"]] * 3
        assert answer["label"].tolist() == [LABELS[i].encode() for i in wanted.argmax(axis=1)]
        assert answer["label"].tolist() == tokens["label"].tolist()
        np.testing.assert_allclose(tokens["scores"], wanted, atol=1e-5)

    @pytest.mark.slow
    def test_pair(self, model, tokenizer, tmp_path):
        preprocess = Preprocessor(tokenizer, sequence_length=16)
        request = {"text": ["the cat", "sea"], "text_pair": ["a dog", "the old house"]}
        with Session(self.export(model, preprocess, tmp_path, pair=True)) as session:
            scores = session.run("serving_default", request)["scores"]
            found = session.run("tokenize", request)
        wanted = preprocess(request["text"], request["text_pair"])
        np.testing.assert_array_equal(found["token_type_ids"], wanted["token_type_ids"])
        np.testing.assert_allclose(scores, tf.nn.softmax(model(wanted)), atol=1e-5)

    @pytest.mark.slow
    def test_multi_label_in_windows(self, tokenizer, tmp_path):
        model = new_model(kind="multi_label", thresholds=[0.2, 0.5, 0.9])
        preprocess = Preprocessor(tokenizer, sequence_length=10)
        with Session(self.export(model, preprocess, tmp_path, windows=True)) as session:
            answer = session.run("serving_default", {"text": [WORDS, "sea"]})
        wanted = (answer["scores"] >= np.float32([0.2, 0.5, 0.9])).astype(np.int32)
        np.testing.assert_array_equal(answer["decisions"], wanted)
        assert answer["classes"].shape == (2, 3)

    @pytest.mark.slow
    def test_regression(self, tokenizer, tmp_path):
        model = new_model(kind="regression", labels=())
        preprocess = Preprocessor(tokenizer, sequence_length=16)
        with Session(self.export(model, preprocess, tmp_path)) as session:
            answer = session.run("serving_default", {"text": ["the cat", "sea"]})
        assert set(answer) == {"score"}
        np.testing.assert_allclose(
            answer["score"], model(preprocess(["the cat", "sea"]))[:, 0], atol=1e-5
        )


@pytest.fixture(scope="module", params=["cut_off", "windows"])
def classify(request, model, tokenizer):
    preprocess = Preprocessor(tokenizer, sequence_length=12)
    return model.signatures(preprocess, windows=request.param == "windows")["serving_default"]


@given(
    texts=st.lists(
        st.text(max_size=20) | st.lists(st.sampled_from(WORDS.split()), max_size=60).map(" ".join),
        min_size=2,
        max_size=5,
    )
)
@settings(max_examples=20)
def test_the_same_alone_and_beside_others(classify, texts):
    together = classify(tf.constant(texts))["scores"]
    alone = [classify(tf.constant([text]))["scores"][0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-5)


class TestWindows:
    def test_the_mean_of_the_windows_logits_by_tokens(self, model, tokenizer):
        preprocess = Preprocessor(tokenizer, sequence_length=10)
        served = model.signatures(preprocess, windows=True, overlap=3)["serving_default"]
        text = " ".join([WORDS] * 3)
        ids = tokenizer.tokenize([text]).to_list()[0]
        total, weight, start = np.zeros(3), 0, 0
        while True:
            window = ids[start : start + 8]
            row = [tokenizer.cls_id, *window, tokenizer.sep_id]
            total += len(window) * model(np.array([row], np.int32))[0].numpy()
            weight += len(window)
            if start + 8 >= len(ids):
                break
            start += 5
        wanted = tf.nn.softmax(total[None] / weight)
        assert start == 40  # so that there were several
        np.testing.assert_allclose(served([text])["scores"], wanted, atol=1e-5)

    def test_more_windows_than_are_computed_together(self, model, tokenizer):
        preprocess = Preprocessor(tokenizer, sequence_length=6)
        served = model.signatures(preprocess, windows=True, overlap=0)["serving_default"]
        text = " ".join(["the cat sat on"] * 40)
        assert len(tokenizer.tokenize([text]).to_list()[0]) == 160  # 40 windows alike
        once = served(["the cat sat on"])["scores"]
        np.testing.assert_allclose(served([text, "sea", text])["scores"][2], once[0], atol=1e-5)

    def test_a_text_that_fits_is_read_as_without_windows(self, model, tokenizer):
        preprocess = Preprocessor(tokenizer, sequence_length=16)
        texts = ["the cat sat", "", "sea"]
        scores = [
            model.signatures(preprocess, windows=windows)["serving_default"](texts)["scores"]
            for windows in (False, True)
        ]
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"overlap": 8}, "less than the 8 tokens.*Received: 8"),
            ({"overlap": -1}, "at least 0"),
            ({"pair": True}, "one text a row, and pair=True asks for two"),
        ],
    )
    def test_what_makes_no_windows_is_refused(self, model, tokenizer, arguments, message):
        preprocess = Preprocessor(tokenizer, sequence_length=10)
        with pytest.raises(InputError, match=message):
            model.signatures(preprocess, windows=True, **arguments)


@functools.cache
def trained() -> ByteLevelBPE:
    return train_byte_level_bpe([WORDS] * 3, 280, special_tokens=("<s>", "<pad>", "</s>"))


class TestPairs:
    def bpe(self, processor=None) -> ByteLevelBPE:
        fast = tokenizers.Tokenizer.from_str(trained().fast.to_str())
        fast.post_processor = processor
        return ByteLevelBPE(fast, special_roles={"pad_token": "<pad>", "bos_token": "<s>"})

    def gpt2(self) -> TextClassifier:
        return new_model(GPT2Config(vocab_size=280, n_positions=24, n_embd=8, n_layer=2, n_head=2))

    def test_texts_that_touch_are_refused(self):
        model, preprocess = self.gpt2(), Preprocessor(self.bpe(), sequence_length=16)
        model.signatures(preprocess)
        with pytest.raises(InputError, match="special token between the two, or a backbone with"):
            model.signatures(preprocess, pair=True)

    @pytest.mark.slow
    def test_a_separator_will_do(self):
        processor = tokenizers.processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)]
        )
        preprocess = Preprocessor(self.bpe(processor), sequence_length=16)
        model = self.gpt2()
        classify = model.signatures(preprocess, pair=True)["serving_default"]
        answer = classify(["the cat"], ["sat on"])["scores"]
        features = preprocess(["the cat"], ["sat on"])
        del features["token_type_ids"]
        np.testing.assert_allclose(answer, tf.nn.softmax(model(features)), atol=1e-5)

    def test_roberta_tells_texts_apart_without_token_types(self):
        processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        config = RobertaConfig(
            **bert_config(vocab_size=280).to_dict() | {"type_vocab_size": 1, "pad_token_id": 1}
        )
        preprocess = Preprocessor(self.bpe(processor), sequence_length=16)
        served = new_model(config).signatures(preprocess, pair=True)
        assert set(served["tokenize"](["the cat"], ["sat"])) == {"input_ids", "attention_mask"}

    @pytest.mark.slow
    def test_bert_without_token_types_is_not_given_any(self, tokenizer):
        model = new_model(bert_config(type_vocab_size=1))
        preprocess = Preprocessor(tokenizer, sequence_length=16)
        served = model.signatures(preprocess, pair=True)
        assert set(served["tokenize"](["a"], ["b"])) == {"input_ids", "attention_mask"}

    def test_token_types_beyond_the_backbones_are_refused(self):
        processor = tokenizers.processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B:2 </s>:2", special_tokens=[("</s>", 2)]
        )
        preprocess = Preprocessor(self.bpe(processor), sequence_length=16)
        model = new_model(bert_config(vocab_size=280))
        model.signatures(preprocess)
        with pytest.raises(InputError, match="token types up to 2 and the backbone has 2"):
            model.signatures(preprocess, pair=True)
