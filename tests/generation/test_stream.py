import numpy as np
import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.generation import Rules, Sampling, StopStrings, StreamFunctions, decode, stream

PROMPTS = [[3, 1, 4, 1, 5], [0], [2, 6, 5, 3, 5, 6, 0, 2, 1], [3, 2]]
WORDS = tf.constant(["a", "bc", "d", "e", "bb", "f", "c"])
EOS = 4

MODES = {
    "greedy": {},
    "everything": {
        "sampling": Sampling(1.4, 5, 0.9, tf.constant([4, 5, 6, 7]), 0.01),
        "rules": Rules(1.3, no_repeat_ngram_size=3, min_new_tokens=1, forced_prefix=[5]),
        "stop": StopStrings(WORDS, tf.constant(["cd", "ee", "ff"])),
    },
}


def rows_of(steps: list[np.ndarray]) -> list[list[int]]:
    return [[int(token) for token in row if token >= 0] for row in np.stack(steps, axis=1)]


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_gives_what_decode_gives(tiny_model, mode):
    model = tiny_model(words=7, seed=2)
    prompts = tf.ragged.constant(PROMPTS, dtype=tf.int32)
    settings = {"max_new_tokens": tf.constant([9, 1, 7, 12]), "eos_id": EOS} | MODES[mode]
    steps = list(stream(model, prompts, **settings))
    assert {(step.dtype, step.shape) for step in steps} == {(np.dtype(np.int32), (4,))}
    assert rows_of(steps) == decode(model, prompts, **settings).to_list()
    # Every step brings something, and what has ended stays so.
    ended = np.stack(steps) < 0
    assert not ended.all(axis=1).any()
    assert (np.diff(ended.astype(int), axis=0) >= 0).all()


def test_one_pair_of_functions_for_each_mode(tiny_model):
    model = tiny_model(words=7, seed=2)
    functions = StreamFunctions(model)
    for length in (1, 2, 5, 9):
        for rows in (1, 3):
            for settings in (
                {},
                {"sampling": Sampling(0.9, top_p=0.8, seed=length)},
                {"rules": Rules(bad_words=[[length % 7], [1, 2]]), "eos_id": length % 7},
                {"stop": StopStrings(WORDS, tf.constant(["x" * length] * rows))},
            ):
                prompts = tf.ones([rows, length], tf.int32)
                count = tf.constant(length + rows)
                steps = stream(
                    model, prompts, max_new_tokens=count, functions=functions, **settings
                )
                assert 0 < len(list(steps)) <= length + rows
    assert functions.traces == 2 * 4


def test_no_rows_and_no_budget_stream_nothing(tiny_model):
    model = tiny_model(words=5)
    assert list(stream(model, tf.zeros([0, 2], tf.int32), max_new_tokens=3)) == []
    assert list(stream(model, tf.constant([[1]]), max_new_tokens=0)) == []


def test_a_prompt_that_is_too_long_is_refused_before_the_first_token(tiny_model):
    model = tiny_model(words=5, positions=4)
    with pytest.raises(InputError, match="exceed"):
        stream(model, tf.constant([[1, 2, 3]]), max_new_tokens=3)
    steps = stream(model, tf.constant([[1, 2, 3]]), max_new_tokens=3, slide=True)
    short = decode(model, tf.constant([[2, 3]]), max_new_tokens=3).to_list()
    assert rows_of(list(steps)) == short
