"""What packed examples are to a model: what each is alone. And what a bundle is asked."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config

from tfllm.data import CompletionEncoder, FastTokenizer, completion_batches
from tfllm.data.templates import (
    DialogueTemplate,
    PairTemplate,
    Template,
    with_template,
    with_template_probes,
)
from tfllm.errors import InputError
from tfllm.models import CausalLM

PAIR = PairTemplate(Template("{a}\n"), Template("{b}"))
TWO = PairTemplate(Template("{q} {c}:"), Template(" {b}"))
CHAT = DialogueTemplate(Template("{speaker}: {text}\n"), "B")


@pytest.fixture(scope="module")
def model(tokenizer) -> CausalLM:
    keras.utils.set_random_seed(1)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=48, n_embd=16, n_layer=2, n_head=2
    )
    model = CausalLM.from_config(config)
    rng = np.random.default_rng(5)
    for variable in model.weights:  # so that what comes before changes what comes after
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


@pytest.mark.parametrize("template", [PAIR, CHAT], ids=["pairs", "dialogues"])
def test_packed_losses_are_the_examples_own(model, tokenizer, template, tmp_path, monkeypatch):
    monkeypatch.setenv("TFLLM_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(0)
    words = np.array("the cat sat on mat dog ate a".split())
    texts = [" ".join(rng.choice(words, n)) for n in rng.integers(1, 6, 60)]
    examples = [
        {"a": texts[i], "b": texts[i + 1], "turns": texts[i : i + 3], "speakers": list("ABA")}
        for i in range(0, 57, 3)
    ]
    encoder = CompletionEncoder(FastTokenizer.of(tokenizer), template, 48)
    packed = completion_batches(examples, encoder, 2, seed=3)
    assert packed.plan.num_rows < len(examples) / 2

    def loss(rows: list[int]) -> tuple[float, float]:
        total = weight = 0.0
        for row in rows:
            ids, targets, weights = (
                tf.constant(packed.store.row(name, row)[None].astype(np.int32))
                for name in ("input_ids", "targets", "weights")
            )
            sums = model.loss_sum_and_weight({"input_ids": ids}, targets, weights, training=False)
            total, weight = total + float(sums[0]), weight + float(sums[1])
        return total, weight

    for step in range(packed.steps_per_epoch):
        whole = model.loss_sum_and_weight(*packed.batch(step), training=False)
        alone = loss(packed.plan.rows(step).rows.tolist())
        assert float(whole[1]) == alone[1] > 0
        assert float(whole[0]) == pytest.approx(alone[0], rel=1e-5)


def test_nothing_left_to_learn(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("TFLLM_CACHE_DIR", str(tmp_path))
    encoder = CompletionEncoder(FastTokenizer.of(tokenizer), PAIR, 2)
    with pytest.raises(InputError, match="--test: nothing is left to learn, since 1 examples are"):
        completion_batches([{"a": "a", "b": "b b b"}], encoder, 2, part="--test")


@tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
def echo(text: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"text": " " + text + "\n"}


@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.string, name="text"),
        tf.TensorSpec([None], tf.int32, name="times"),
    ]
)
def repeat(text: tf.Tensor, times: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"text": echo(text)["text"] + tf.strings.as_string(times), "times": times}


@pytest.mark.parametrize("template", [PAIR, TWO, CHAT], ids=["one", "two", "dialogue"])
def test_serving_functions_take_what_the_template_names(template):
    served = with_template({"serving_default": echo, "repeat": repeat}, template)
    example = {"a": "the cat", "q": "the", "c": "cat", "b": "x"}
    example |= {"turns": ["the cat", "x"], "speakers": ["A", "B"]}
    (question,) = template.questions(example)
    request = question.request
    request = {"text": request} if isinstance(request, str) else request
    columns = {name: tf.constant([text, "sat"]) for name, text in request.items()}
    prompt = question.prompt.encode()
    answer = served["serving_default"](**columns)["text"].numpy()
    assert answer[0] == prompt.strip() and len(answer) == 2
    answers = served["repeat"](**columns, times=tf.constant([3, 4]))
    assert answers["text"].numpy()[0] == prompt + b"\n3"
    assert answers["times"].numpy().tolist() == [3, 4]
    probes = {"repeat": {"text": ["u", "v"], "times": [1]}}
    probes = with_template_probes(probes, template, ["x", "y", "z"])
    for name, function in served.items():
        positional, named = function.get_concrete_function().structured_input_signature
        specs = [*positional, *named.values()]
        assert probes[name].keys() == {spec.name for spec in specs}
        assert all(spec.shape.as_list() == [None] for spec in specs)
    assert probes["repeat"]["times"] == [1]
    rotated = [["x", "y", "z"], ["y", "z", "x"]]
    assert list(probes["serving_default"].values()) == rotated[: len(template.inputs)]


def test_functions_without_text_stay_as_they_are():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="ids")])
    def score(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"score": ids}

    assert with_template({"score": score}, PAIR) == {"score": score}
