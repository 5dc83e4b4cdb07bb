"""A row gets the same tokens whoever is beside it, however it is padded, and in a SavedModel."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.generation import Beam, Rules, Sampling, StopStrings, beam_search, decode
from tfllm.serving.session import Session

WORDS = tf.constant(["a", "bc", "d", "e", "bb", "f", "c", "ab"])
EOS = 4

rows = st.lists(
    st.tuples(
        st.lists(st.integers(0, 7), min_size=1, max_size=9),  # prompt
        st.integers(0, 8),  # max_new_tokens
        st.sampled_from([0.0, 0.7, 1.5]),  # temperature
        st.integers(0, 9),  # top_k
        st.sampled_from([0.0, 0.6, 1.0]),  # top_p
        st.sampled_from([0.0, 0.2]),  # min_p
        st.integers(-(2**31), 2**31 - 1),  # seed
        st.sampled_from([1.0, 1.8]),  # repetition_penalty
        st.integers(0, 3),  # no_repeat_ngram_size
        st.integers(0, 3),  # min_new_tokens
        st.lists(st.integers(0, 7), max_size=2),  # forced_prefix
        st.sampled_from(["", "cd", "ab", "bbb"]),  # stop
    ),
    min_size=1,
    max_size=5,
)


def ragged(lists) -> tf.RaggedTensor:
    values = tf.constant([i for row in lists for i in row], tf.int32)
    return tf.RaggedTensor.from_row_lengths(values, tf.constant([*map(len, lists)], tf.int64))


SPECS = [
    tf.RaggedTensorSpec([None, None], tf.int32),
    *[
        tf.TensorSpec([None], dtype)
        for dtype in (tf.int32, tf.float32, tf.int32, tf.float32, tf.float32, tf.int32)
    ],
    *[tf.TensorSpec([None], dtype) for dtype in (tf.float32, tf.int32, tf.int32)],
    tf.RaggedTensorSpec([None, None], tf.int32),
    tf.TensorSpec([None], tf.string),
]


class Everything(tf.Module):
    """Every mode as a function of a batch whose size and lengths are unknown."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.traces = []

    @tf.function(input_signature=SPECS, autograph=False)
    def drawn(
        self, prompts, budget, temperature, top_k, top_p, min_p, seed, penalty, ngram, least,
        forced, stop,
    ):  # fmt: skip
        self.traces.append("drawn")
        found = decode(
            self.model,
            prompts,
            max_new_tokens=budget,
            sampling=Sampling(temperature, top_k, top_p, seed, min_p),
            rules=Rules(penalty, 0.1, 0.2, ngram, [[6, 6], [1]], least, forced),
            stop=StopStrings(WORDS, stop[:, None]),
            eos_id=EOS,
        )
        return {"ids": found.to_tensor(-1)}

    @tf.function(input_signature=SPECS[:2], autograph=False)
    def greedy(self, prompts, budget):
        self.traces.append("greedy")
        return decode(self.model, prompts, max_new_tokens=budget, eos_id=EOS).to_tensor(-1)

    @tf.function(input_signature=SPECS[:2], autograph=False)
    def searched(self, prompts, budget):
        self.traces.append("searched")
        ids, _ = beam_search(
            self.model,
            prompts,
            max_new_tokens=budget,
            beam=Beam(3, 1.0, 2),
            rules=Rules(1.2, no_repeat_ngram_size=2, bad_words=[[3]]),
            stop=StopStrings(WORDS, tf.constant(["cd"])),
            eos_id=EOS,
        )
        return ids.to_tensor(-1)


@pytest.fixture(scope="module")
def everything(tiny_model):
    return Everything(tiny_model(words=8, seed=6))


def batch_of(cases) -> list:
    prompts, *settings, forced, stop = map(list, zip(*cases, strict=True))
    dtypes = [spec.dtype for spec in SPECS[1:10]]
    numbers = [tf.constant(s, d) for s, d in zip(settings, dtypes, strict=True)]
    return [ragged(prompts), *numbers, ragged(forced), tf.constant(stop)]


def trimmed(ids: tf.Tensor) -> list:
    return [[int(i) for i in row if i >= 0] for row in np.asarray(ids).reshape(len(ids), -1)]


@settings(max_examples=12)
@given(rows, st.lists(st.integers(0, 7), min_size=12, max_size=12))
def test_a_row_does_not_depend_on_its_neighbours_padding_or_cache_size(everything, cases, wide):
    # A long neighbour with a large budget makes the padding and the cache of the others larger.
    neighbour = (wide, 20, 1.0, 3, 0.9, 0.1, 5, 1.1, 2, 0, [], "")
    functions = {
        "drawn": lambda cases: trimmed(everything.drawn(*batch_of(cases))["ids"]),
        "greedy": lambda cases: trimmed(everything.greedy(*batch_of(cases)[:2])),
        "searched": lambda cases: trimmed(everything.searched(*batch_of(cases)[:2])),
    }
    for function in functions.values():
        alone = [function([case])[0] for case in cases]
        assert function(cases) == alone
        assert function([neighbour, *cases])[1:] == alone


def test_one_trace_for_each_mode(everything):
    for cases in ([([1], 3)], [([2, 3], 5), ([1, 2, 3], 0)]):
        full = [(*case, 0.5, 2, 0.9, 0.0, 1, 1.0, 0, 0, [], "") for case in cases]
        batch = batch_of(full)
        everything.drawn(*batch), everything.greedy(*batch[:2]), everything.searched(*batch[:2])
    assert sorted(everything.traces) == ["drawn", "greedy", "searched"]


@pytest.mark.slow
def test_the_same_in_a_saved_model(everything, tmp_path):
    table, numbers = tf.TensorSpec([None, None], tf.int32), SPECS[1:10] + SPECS[11:]

    def unpadded(ids: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_tensor(ids, padding=-1)

    @tf.function(input_signature=[table, table, *numbers], autograph=False)
    def drawn(prompts, forced, *settings):
        return everything.drawn(unpadded(prompts), *settings[:-1], unpadded(forced), settings[-1])

    @tf.function(input_signature=[table, numbers[0]], autograph=False)
    def searched(prompts, budget):
        return {"ids": everything.searched(unpadded(prompts), budget)}

    module = tf.Module()
    module.kept = tf.Variable(0.0)  # a SavedModel without variables does not load
    signatures = {"drawn": drawn, "searched": searched}
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=signatures)
    cases = [
        ([3, 1, 4], 8, 1.5, 5, 0.9, 0.05, 7, 1.3, 2, 1, [6], "cd"),
        ([0], 5, 0.7, 0, 1.0, 0.0, 8, 1.0, 0, 0, [], ""),
    ]
    prompts, *settings, forced, stop = batch_of(cases)
    tensors = [prompts.to_tensor(-1), forced.to_tensor(-1), *settings, stop]
    with Session(tmp_path / "1") as session:
        feeds = feeds_of(drawn, tensors)
        found = session.run("drawn", feeds)["ids"]
        np.testing.assert_array_equal(found, everything.drawn(*batch_of(cases))["ids"])
        found = session.run("searched", feeds_of(searched, [tensors[0], settings[0]]))["ids"]
        np.testing.assert_array_equal(found, everything.searched(prompts, settings[0]))


def feeds_of(function, tensors) -> dict[str, np.ndarray]:
    names = function.get_concrete_function().structured_input_signature[0]
    return {spec.name: t.numpy() for spec, t in zip(names, tensors, strict=True)}
