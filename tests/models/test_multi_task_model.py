import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import BertConfig

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.models import (
    MultiTaskModel,
    TextClassifier,
    TokenClassifier,
    adapt,
    load_adapters,
    merge_lora,
    save_adapters,
    save_trained,
)
from tfllm.models.backbones import create_backbone
from tfllm.serving import Session
from tfllm.text import Preprocessor, train_wordpiece

SIZES = {
    "vocab_size": 60,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
    "hidden_dropout_prob": 0.1,
}
IDS = tf.constant([[2, 5, 9, 3], [2, 8, 3, 0], [2, 7, 7, 3], [2, 4, 3, 0]])
FEATURES = {
    "input_ids": IDS,
    "attention_mask": tf.cast(IDS > 0, tf.int32),
    "token_type_ids": tf.zeros_like(IDS),
}
OWN = {
    "topic": (tf.constant([0, 2, 1, 1]), tf.constant([1.0, 1.0, 0.0, 1.0])),
    "grade": (tf.constant([0.5, 2.0, -1.0, 0.0]), tf.constant([1.0, 0.0, 1.0, 1.0])),
    "tags": (tf.constant([[0, 1, 0, 0]] * 4), tf.cast(IDS > 3, tf.float32)),
}


LORA = {"rank": 2, "alpha": 4.0, "targets": ["query", "output.dense"]}
HEADS = ["topic/head", "grade/head", "tags/classifier", "tags/crf"]


def new_tasks():
    keras.utils.set_random_seed(4)
    backbone = create_backbone(BertConfig(**SIZES))
    return {
        "topic": TextClassifier(backbone, labels=["a", "b", "c"]),
        "grade": TextClassifier(backbone, kind="regression"),
        "tags": TokenClassifier(backbone, labels=["O", "B-X"], crf=True),
    }


def batch_of(name):
    """One task's rows; the others' weigh nothing."""
    nothing = {
        "topic": (tf.zeros([4], tf.int32), tf.zeros([4])),
        "grade": (tf.zeros([4]), tf.zeros([4])),
        "tags": (tf.zeros([4, 1], tf.int32), tf.zeros([4, 1])),
    }
    chosen = nothing | {name: OWN[name]}
    targets, weights = ({key: pair[i] for key, pair in chosen.items()} for i in (0, 1))
    return FEATURES, targets, weights


def step_of(model, batch, **how):
    model.compile(keras.optimizers.SGD(0.1), **how)
    dataset = tf.data.Dataset.from_tensors(batch)
    return model.fit(dataset, verbose=0).history["loss"][0]


@pytest.mark.parametrize(("name", "k"), [("topic", 2), ("grade", 1), ("tags", 1)])
def test_a_step_is_that_of_the_task_alone(name, k):
    together, alone = new_tasks(), new_tasks()[name]
    model = MultiTaskModel(together)
    before = [
        w.numpy() for other in together if other != name for w in own_weights(together[other])
    ]
    loss = step_of(model, batch_of(name), accumulate_steps=k)
    assert loss == pytest.approx(
        step_of(alone, (FEATURES, *OWN[name]), accumulate_steps=k), abs=1e-6
    )
    for ours, wanted in zip(together[name].weights, alone.weights, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-6)
    after = [w.numpy() for other in together if other != name for w in own_weights(together[other])]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def own_weights(task):
    shared = {id(weight) for weight in task.backbone.weights}
    return [weight for weight in task.weights if id(weight) not in shared]


def test_a_batch_of_several_tasks_adds_their_losses():
    model = MultiTaskModel(new_tasks())
    targets, weights = ({name: pair[i] for name, pair in OWN.items()} for i in (0, 1))
    found = model.loss_sum_and_weight(FEATURES, targets, weights, training=False)
    parts = [
        task.loss_sum_and_weight(FEATURES, *OWN[name], training=False)
        for name, task in model.tasks.items()
    ]
    np.testing.assert_allclose(found, np.sum(parts, axis=0), rtol=1e-6)


def test_other_tasks_rows_are_no_padding():
    model = MultiTaskModel(new_tasks())
    model.compile(keras.optimizers.SGD(0.0))
    targets = {name: pair[0] for name, pair in OWN.items()}
    weights = {name: pair[1] * (name == "topic") for name, pair in OWN.items()}
    found = model.train_step((FEATURES, targets, weights))
    assert float(found["padding"]) == 2 / 16


def test_weights_are_counted_once_and_calls_give_every_task():
    model = MultiTaskModel(new_tasks())
    names = {id(weight) for weight in model.weights}
    assert len(names) == len(model.weights)
    logits = model(FEATURES)
    for name, task in model.tasks.items():
        np.testing.assert_array_equal(logits[name], task(FEATURES))


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [False, True])
def test_one_bundle_answers_for_every_task(adapters, tmp_path):
    tokenizer = train_wordpiece(["the cat sat on the mat", "a dog saw the sea"] * 2, 60)
    preprocess = Preprocessor(tokenizer, sequence_length=12)
    model = MultiTaskModel(new_tasks())
    if adapters:
        adapt(model, lora=LORA, heads=HEADS, by_task=True)
        stir(model)
    functions = {name: task.signatures(preprocess) for name, task in model.tasks.items()}
    served = model.signatures(functions)
    assert list(served) == ["serving_default", "topic", "grade", "tags"]
    bundle = export_bundle(served, tmp_path, "several", modules=[model, preprocess])
    kept = tf.train.list_variables(str(bundle / "variables" / "variables"))
    weights = [weight for weight in kept if "VARIABLE_VALUE" in weight[0]]
    assert len(weights) == len({id(weight) for weight in model.weights})
    session = Session(bundle)
    for name in model.tasks:
        texts = ["the cat", "a dog saw the sea"]
        ours = functions[name]["serving_default"](texts)
        theirs = session.run(name, {"text": texts})
        assert set(theirs) == set(ours)
        for output in ours:
            if ours[output].dtype == tf.string:
                np.testing.assert_array_equal(theirs[output], ours[output])
            else:
                np.testing.assert_allclose(theirs[output], ours[output], atol=1e-5)


def test_each_task_is_saved_with_the_backbone(tmp_path):
    model = MultiTaskModel(new_tasks())
    model.save_pretrained(tmp_path / "model")
    tags = TokenClassifier.from_pretrained(tmp_path / "model" / "tags")
    assert tags.crf is not None and tags.labels == ("O", "B-X")
    np.testing.assert_allclose(tags(FEATURES), model.tasks["tags"](FEATURES), atol=1e-6)
    for name in ("topic", "grade"):
        loaded = TextClassifier.from_pretrained(tmp_path / "model" / name)
        np.testing.assert_allclose(loaded(FEATURES), model.tasks[name](FEATURES), atol=1e-6)
    with pytest.raises(InputError, match="topic exists already"):
        model.save_pretrained(tmp_path / "model")
    model.save_pretrained(tmp_path / "model", overwrite=True)


def test_adapters_on_the_one_backbone_train_beside_every_head(tmp_path):
    model = MultiTaskModel(new_tasks())
    backbone = [(weight, weight.numpy()) for weight in model.backbone.weights]
    heads = ["topic/head", "grade/head", "tags/classifier", "tags/crf"]
    adapt(model, lora={"rank": 2, "alpha": 4.0, "targets": ["query"]}, heads=heads)
    own = {id(weight) for task in model.tasks.values() for weight in own_weights(task)}
    trained = model.trainable_weights
    adapters = [weight for weight in trained if id(weight) not in own]
    assert len(adapters) == 2 and all("lora" in weight.name for weight in adapters)
    assert {id(weight) for weight in trained} > own
    before = [weight.numpy() for weight in trained]
    targets, weights = ({name: pair[i] for name, pair in OWN.items()} for i in (0, 1))
    step_of(model, (FEATURES, targets, weights))
    for weight, old in zip(trained, before, strict=True):
        # A is multiplied with B, which begins as 0: it has no gradient in the first step.
        assert "lora_a" in weight.name or not np.array_equal(weight, old), weight.name
    for weight, old in backbone:
        np.testing.assert_array_equal(weight, old)
    save_adapters(model, tmp_path / "adapters")
    other = MultiTaskModel(new_tasks())
    load_adapters(other, tmp_path / "adapters")
    wanted = model(FEATURES)
    merge_lora(model)
    for name in model.tasks:
        np.testing.assert_allclose(other(FEATURES)[name], wanted[name], atol=1e-6)
        np.testing.assert_allclose(model(FEATURES)[name], wanted[name], atol=1e-5)
    assert len(model.backbone.weights) == len(backbone)
    other = MultiTaskModel(new_tasks())
    with pytest.raises(InputError, match="no head 'topic'.*It has: topic/head, grade/head"):
        adapt(other, lora={"rank": 2, "alpha": 4.0}, heads=["topic"])


def stir(model):
    """Give every adapter something to add."""
    for number, weight in enumerate(weight for weight in model.weights if "lora_b" in weight.name):
        weight.assign(tf.random.stateless_normal(weight.shape, (number, 1)))


def test_adapters_of_its_own_make_a_task_as_if_alone():
    together, alone = new_tasks(), new_tasks()["topic"]
    model = MultiTaskModel(together)
    backbone = [(weight, weight.numpy()) for weight in model.backbone.weights]
    plain = model(FEATURES)
    said = adapt(model, lora=LORA | {"dropout": 0.2}, heads=HEADS, by_task=True)
    assert model.adapted_by_task and said.startswith("LoRA: ")
    for name, logits in model(FEATURES).items():
        np.testing.assert_array_equal(logits, plain[name])
    # The backbone's weights are there once; each task adds its head and two pairs.
    heads = [weight for task in new_tasks().values() for weight in own_weights(task)]
    assert len(model.weights) == len(backbone) + len(heads) + 3 * 4
    assert len({id(weight) for weight in model.weights}) == len(model.weights)
    adapt(alone, lora=LORA | {"dropout": 0.2}, heads=["head"])
    others = [together[name] for name in ("grade", "tags")]
    before = [weight.numpy() for task in others for weight in task.trainable_weights]
    loss = step_of(model, batch_of("topic"))
    assert loss == pytest.approx(step_of(alone, (FEATURES, *OWN["topic"])), abs=1e-6)
    np.testing.assert_allclose(together["topic"](FEATURES), alone(FEATURES), atol=1e-6)
    assert not np.array_equal(together["topic"](FEATURES), plain["topic"])
    after = [weight.numpy() for task in others for weight in task.trainable_weights]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    for weight, old in backbone:
        np.testing.assert_array_equal(weight, old)
    for by_task in (True, False):
        with pytest.raises(InputError, match="tasks have adapters already"):
            adapt(model, lora=LORA, by_task=by_task)
    with pytest.raises(InputError, match="can't be merged: the others read the same matrices"):
        merge_lora(model.tasks["topic"])


def test_adapters_of_a_task_are_saved_alone_and_folded_in(tmp_path):
    model = MultiTaskModel(new_tasks(), frozen=["grade"])
    adapt(model, lora=LORA, heads=HEADS, by_task=True)
    stir(model)
    wanted = model(FEATURES)
    save_trained(model, tmp_path, None, adapters=True)
    assert {path.name for path in (tmp_path / "adapters").iterdir()} == {"topic", "tags"}
    tags = new_tasks()["tags"]
    load_adapters(tags, tmp_path / "adapters" / "tags")
    np.testing.assert_allclose(tags(FEATURES), wanted["tags"], atol=1e-6)
    folded = TokenClassifier.from_pretrained(tmp_path / "model" / "tags")
    np.testing.assert_allclose(folded(FEATURES), wanted["tags"], atol=1e-5)
    grade = TextClassifier.from_pretrained(tmp_path / "model" / "grade")
    np.testing.assert_allclose(grade(FEATURES), wanted["grade"], atol=1e-5)
    for name, logits in model(FEATURES).items():
        np.testing.assert_array_equal(logits, wanted[name])


def test_a_frozen_task_trains_its_head_alone():
    model = MultiTaskModel(new_tasks(), frozen=["topic"])
    blocks = [weight for weight in model.backbone.weights if "pooler" not in weight.name]
    before = [weight.numpy() for weight in blocks]
    head = [weight.numpy() for weight in own_weights(model.tasks["topic"])]
    step_of(model, batch_of("topic"), accumulate_steps=2)
    for weight, old in zip(blocks, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    for weight, old in zip(own_weights(model.tasks["topic"]), head, strict=True):
        assert not np.array_equal(weight, old)


def test_other_tasks_of_the_batch_train_the_blocks():
    targets, weights = ({name: pair[i] for name, pair in OWN.items()} for i in (0, 1))
    frozen, plain = MultiTaskModel(new_tasks(), frozen=["topic"]), MultiTaskModel(new_tasks())
    found = gradients(frozen, targets, weights)
    wanted = gradients(plain, targets, weights | {"topic": tf.zeros([4])})
    for ours, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-6)


def gradients(model, targets, weights):
    """Of the summed loss, for the blocks."""
    with tf.GradientTape() as tape:
        loss, _ = model.loss_sum_and_weight(FEATURES, targets, weights, training=False)
    return [tf.convert_to_tensor(g) for g in tape.gradient(loss, own_blocks(model))]


def own_blocks(task):
    return [weight for weight in task.backbone.weights if "pooler" not in weight.name]


def test_classifiers_come_before_heads_that_need_no_pooler():
    backbone = create_backbone(BertConfig(**SIZES))
    TokenClassifier(backbone, labels=["O", "B-X"])
    with pytest.raises(InputError, match="Make classifiers first"):
        TextClassifier(backbone, labels=["a", "b"])


def test_what_are_no_tasks():
    tasks, others = new_tasks(), new_tasks()
    with pytest.raises(InputError, match="frozen must name tasks: topic, .* Received: names"):
        MultiTaskModel(tasks, frozen=["topic", "names"])
    with pytest.raises(InputError, match="must train the backbone, and all are frozen"):
        MultiTaskModel(tasks, frozen=[*tasks])
    with pytest.raises(InputError, match="at least one task"):
        MultiTaskModel({})
    with pytest.raises(InputError, match="'b' has a backbone of its own"):
        MultiTaskModel({"a": tasks["topic"], "b": others["topic"]})
    model = MultiTaskModel(tasks)
    with pytest.raises(InputError, match="without functions to serve: grade, tags"):
        model.signatures({"topic": {"serving_default": None}})
    with pytest.raises(InputError, match="can't be called serving_default"):
        MultiTaskModel({"serving_default": tasks["topic"]}).signatures({})
