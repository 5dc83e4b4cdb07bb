"""The decode loop with a real tiny GPT-2."""

import numpy as np
import pytest
import tensorflow as tf
from transformers import GPT2Config

from tfllm.generation.decode import left_padded
from tfllm.generation.sampling import Sampling
from tfllm.models import CausalLM


@pytest.fixture(scope="module")
def model() -> CausalLM:
    tf.random.set_seed(2)
    config = GPT2Config(vocab_size=31, n_positions=20, n_embd=16, n_layer=2, n_head=2)
    model = CausalLM.from_config(config)
    rng = np.random.default_rng(4)
    for variable in model.weights:
        variable.assign(variable + 0.4 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


def by_hand(model: CausalLM, prompt: list[int], count: int) -> list[int]:
    """Greedy decoding that runs the whole row again for each token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(tf.argmax(model(tf.constant([ids]))[0, -1])))
    return ids[len(prompt) :]


PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7, 9], [3, 2]]


def test_greedy_equals_running_the_whole_row_again(model):
    together = model.generate(tf.ragged.constant(PROMPTS, dtype=tf.int32), max_new_tokens=7)
    assert together.to_list() == [by_hand(model, prompt, 7) for prompt in PROMPTS]


def test_a_row_does_not_depend_on_its_neighbours(model):
    sampling = Sampling(temperature=1.3, top_k=8, top_p=0.9, seed=5)
    prompts = tf.ragged.constant(PROMPTS, dtype=tf.int32)
    together = model.generate(prompts, max_new_tokens=8, sampling=sampling).to_list()
    for prompt, wanted in zip(PROMPTS, together, strict=True):
        alone = model.generate(tf.constant([prompt]), max_new_tokens=8, sampling=sampling)
        assert alone.to_list() == [wanted]
    other = model.generate(prompts, max_new_tokens=8, sampling=sampling._replace(seed=6))
    assert other.to_list() != together


def test_in_graph_with_unknown_batch_and_lengths(model):
    traces = []

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)])
    def generate(ids: tf.RaggedTensor) -> tf.RaggedTensor:
        traces.append(1)
        return model.generate(ids, max_new_tokens=5)

    for prompts in (PROMPTS, PROMPTS[:1], PROMPTS[2:]):
        found = generate(tf.ragged.constant(prompts, dtype=tf.int32))
        assert found.to_list() == [by_hand(model, prompt, 5) for prompt in prompts]
    empty = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), tf.zeros([0], tf.int64))
    assert generate(empty).to_list() == []
    assert len(traces) == 1


def test_a_row_ends_before_its_end_token(model):
    wanted = by_hand(model, PROMPTS[0], 8)
    end = wanted[4]
    found = model.generate(tf.constant([PROMPTS[0]]), max_new_tokens=8, eos_id=end)
    assert found.to_list() == [wanted[: wanted.index(end)]]


def test_each_row_has_its_own_budget(model):
    prompts = tf.ragged.constant(PROMPTS, dtype=tf.int32)
    found = model.generate(prompts, max_new_tokens=tf.constant([2, 0, 5, 1])).to_list()
    budgets = zip(PROMPTS, [2, 0, 5, 1], strict=True)
    assert found == [by_hand(model, prompt, count) for prompt, count in budgets]


def test_all_positions_can_be_used_and_not_one_more(model):
    prompt = tf.constant([[1] * 15])
    # The last new token is not read, so 15 + 6 tokens take 20 positions.
    assert model.generate(prompt, max_new_tokens=6).to_list() == [by_hand(model, [1] * 15, 6)]
    with pytest.raises(tf.errors.InvalidArgumentError, match="exceed the model's 20 positions"):
        model.generate(prompt, max_new_tokens=7)


def test_a_row_that_has_ended_stays_within_the_positions(model):
    prompts = [[1] * 19, [2, 3]]
    found = model.generate(
        tf.ragged.constant(prompts, dtype=tf.int32), max_new_tokens=tf.constant([2, 12])
    )
    assert found.to_list() == [by_hand(model, prompts[0], 2), by_hand(model, prompts[1], 12)]


def test_no_rows_and_huge_budgets(model):
    assert model.generate(tf.zeros([0, 3], tf.int32), max_new_tokens=2).to_list() == []
    with pytest.raises(tf.errors.InvalidArgumentError, match="exceed"):
        model.generate(tf.constant([[1]]), max_new_tokens=2**31 - 1)


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="start token"):
        model.generate(tf.ragged.constant([[1], []], dtype=tf.int32), max_new_tokens=2)


def test_left_padded_by_hand():
    ids, mask = left_padded(tf.ragged.constant([[5], [6, 7], []], dtype=tf.int32))
    assert ids.numpy().tolist() == [[0, 5], [6, 7], [0, 0]]
    assert mask.numpy().tolist() == [[0, 1], [1, 1], [0, 0]]
