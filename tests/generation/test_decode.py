"""The decode loop with a real tiny GPT-2; what needs no GPT-2 runs on the tests' own model."""

import numpy as np
import pytest
import tensorflow as tf
from transformers import GPT2Config

from tfllm.errors import InputError
from tfllm.generation import Sampling, decode
from tfllm.models import CausalLM

PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7, 9], [3, 2]]


@pytest.fixture(scope="module")
def gpt2() -> CausalLM:
    tf.random.set_seed(2)
    config = GPT2Config(vocab_size=31, n_positions=20, n_embd=16, n_layer=2, n_head=2)
    model = CausalLM.from_config(config)
    rng = np.random.default_rng(4)
    for variable in model.weights:
        variable.assign(variable + 0.4 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(words=10, seed=4, positions=20)


def by_hand(model, prompt: list[int], count: int) -> list[int]:
    """Greedy decoding that runs the whole row again for each token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model.next_logits(ids).argmax()))
    return ids[len(prompt) :]


def test_in_graph_with_unknown_batch_lengths_and_budgets(gpt2):
    traces = []

    @tf.function(
        input_signature=[tf.RaggedTensorSpec([None, None], tf.int32), tf.TensorSpec([None])],
        autograph=False,
    )
    def generate(ids: tf.RaggedTensor, budget: tf.Tensor) -> tf.RaggedTensor:
        traces.append(1)
        return gpt2.generate(ids, max_new_tokens=tf.cast(budget, tf.int32))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def next_ids(ids: tf.Tensor) -> tf.Tensor:
        return tf.argmax(gpt2(ids), axis=-1)

    for prompts, budgets in ((PROMPTS, [5, 0, 7, 1]), (PROMPTS[:1], [16]), ([[1] * 19], [2])):
        ids = tf.ragged.constant(prompts, dtype=tf.int32)
        found = generate(ids, tf.constant(budgets, tf.float32)).to_list()
        for prompt, budget, new in zip(prompts, budgets, found, strict=True):
            assert len(new) == budget
            # Each new token is the likeliest one behind all before it.
            along = next_ids(tf.constant([prompt + new[:-1]])).numpy()[0]
            assert new == along[len(prompt) - 1 :].tolist()[: len(new)]
    empty = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), tf.zeros([0], tf.int64))
    assert generate(empty, tf.zeros([0])).to_list() == []
    assert len(traces) == 1


def test_greedy_equals_running_the_whole_row_again(model):
    together = decode(model, tf.ragged.constant(PROMPTS, dtype=tf.int32), max_new_tokens=7)
    assert together.to_list() == [by_hand(model, prompt, 7) for prompt in PROMPTS]


def test_another_seed_draws_another_continuation(model):
    prompts = tf.ragged.constant(PROMPTS, dtype=tf.int32)
    found = [
        decode(model, prompts, max_new_tokens=8, sampling=Sampling(1.3, seed=seed)).to_list()
        for seed in (5, 5, 6)
    ]
    assert found[0] == found[1] != found[2]


def test_a_row_ends_before_its_end_token(model):
    wanted = by_hand(model, PROMPTS[0], 8)
    end = wanted[4]
    found = decode(model, tf.constant([PROMPTS[0]]), max_new_tokens=8, eos_id=end)
    assert found.to_list() == [wanted[: wanted.index(end)]]


def test_all_positions_can_be_used_and_not_one_more(model):
    prompt = tf.constant([[1] * 15])
    # The last new token is not read, so 15 + 6 tokens take 20 positions.
    assert decode(model, prompt, max_new_tokens=6).to_list() == [by_hand(model, [1] * 15, 6)]
    with pytest.raises(InputError, match="exceed the model's 20 positions"):
        decode(model, prompt, max_new_tokens=7)


def test_a_long_prompt_slides_where_that_is_asked_for(model):
    prompt = [1, 2, 3, 4, 5, 6, 7, 8] * 3
    found = decode(model, tf.constant([prompt]), max_new_tokens=6, slide=True)
    assert found.to_list() == [by_hand(model, prompt[-15:], 6)]


def test_a_row_that_has_ended_stays_within_the_positions(model):
    prompts = tf.ragged.constant([[1] * 19, [2, 3]], dtype=tf.int32)
    found = decode(model, prompts, max_new_tokens=tf.constant([2, 12]))
    assert found.to_list() == [by_hand(model, [1] * 19, 2), by_hand(model, [2, 3], 12)]


def test_no_rows_and_huge_budgets(model):
    assert decode(model, tf.zeros([0, 3], tf.int32), max_new_tokens=2).to_list() == []
    with pytest.raises(InputError, match="exceed"):
        decode(model, tf.constant([[1]]), max_new_tokens=2**31 - 1)


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(InputError, match="start token"):
        decode(model, tf.ragged.constant([[1], []], dtype=tf.int32), max_new_tokens=2)
