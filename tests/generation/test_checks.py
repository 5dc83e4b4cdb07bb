import numpy as np
import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.generation import Beam, Rules, Sampling, StopStrings, beam_search, decode, stream
from tfllm.generation.checks import check_ids, check_one_mode, check_rows

PROMPT = tf.constant([[1, 2], [3, 1]])


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(words=6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sampling": Sampling(temperature=-1.0)}, "temperature must be .* at least 0.*-1.0"),
        ({"sampling": Sampling(temperature=float("nan"))}, "temperature .* Received: nan"),
        ({"sampling": Sampling(temperature=float("inf"))}, "temperature .* Received: inf"),
        ({"sampling": Sampling(temperature=1e300)}, "temperature .* 32 bits.* Received: 1e.300"),
        ({"sampling": {}}, "sampling must be a Sampling. Received: {}"),
        ({"rules": 3}, "rules must be a Rules. Received: 3"),
        ({"eos_id": float("nan")}, "eos_id must be one id, a whole number. Received: nan"),
        ({"eos_id": [0, 1]}, "eos_id must be one id.*0, 1"),
        ({"sampling": Sampling(top_k=-1)}, "top_k must be a whole number of at least 0.*-1"),
        ({"sampling": Sampling(top_k=2.5)}, "top_k must be a whole number .*2.5"),
        ({"sampling": Sampling(top_p=1.5)}, "top_p must be a number between 0 and 1.*1.5"),
        ({"sampling": Sampling(top_p=[0.5, -0.1])}, "top_p .* Received: -0.1 in row 1"),
        ({"sampling": Sampling(min_p=tf.constant([2.0, 0.0]))}, "min_p .* 2.0 in row 0"),
        ({"sampling": Sampling(top_p="high")}, "top_p must be a number, .* Received: 'high'"),
        ({"sampling": Sampling(seed=2**63)}, "seed must be a whole number of 64 bits.*808$"),
        ({"sampling": Sampling(seed=2**64)}, "seed must be a number.*1616$"),
        ({"sampling": Sampling(top_k=2**31)}, "top_k must be a whole number of 32 bits.*648$"),
        ({"max_new_tokens": 2**31}, "max_new_tokens must be a whole number of 32 bits"),
        ({"rules": Rules(repetition_penalty=0.0)}, "repetition_penalty must be a number above 0"),
        ({"rules": Rules(presence_penalty=float("nan"))}, "presence_penalty .*, and finite"),
        ({"rules": Rules(frequency_penalty=float("inf"))}, "frequency_penalty .*, and finite"),
        ({"rules": Rules(no_repeat_ngram_size=-2)}, "no_repeat_ngram_size .* at least 0"),
        ({"rules": Rules(min_new_tokens=4)}, "min_new_tokens=4, max_new_tokens=3"),
        ({"rules": Rules(bad_words=[[1], []])}, "bad_words .* number 1 is empty"),
        ({"rules": Rules(bad_words=[[1, 6]])}, "bad_words must be of the model's 6 words.*6$"),
        ({"rules": Rules(forced_prefix=[-1])}, "forced_prefix must be .* 0 to 5. Received: -1"),
        ({"eos_id": 6}, "eos_id must be of the model's 6 words, 0 to 5. Received: 6"),
        ({"max_new_tokens": -1}, "max_new_tokens must be a whole number of at least 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_alike(model, settings, says):
    settings = {"max_new_tokens": 3} | settings
    with pytest.raises(InputError, match=says):
        decode(model, PROMPT, **settings)
    with pytest.raises(InputError, match=says):
        stream(model, PROMPT, **settings)
    if "sampling" not in settings:
        with pytest.raises(InputError, match=says):
            beam_search(model, PROMPT, beam=Beam(2), **settings)


@pytest.mark.parametrize(
    ("beam", "says"),
    [
        (Beam(0), "num_beams must be a whole number between 1 and 256. Received: 0"),
        (Beam(10**7), "num_beams must be a whole number between 1 and 256. Received: 10000000"),
        (3, "beam must be a Beam. Received: 3"),
        (Beam(2, num_returned=3), "num_returned=3, num_beams=2"),
        (Beam(2, num_returned=0), "num_returned .* at least 1"),
        (Beam(2, length_penalty=float("nan")), "length_penalty .* Received: nan"),
        (Beam(2, early_stopping="always"), "early_stopping must be .* Received: 'always'"),
    ],
)
def test_beams_that_cannot_be_meant_are_refused(model, beam, says):
    with pytest.raises(InputError, match=says):
        beam_search(model, PROMPT, max_new_tokens=3, beam=beam)


def test_an_empty_list_forbids_and_forces_nothing(model):
    free = decode(model, PROMPT, max_new_tokens=3)
    for rules in (Rules(bad_words=[]), Rules(forced_prefix=[]), Rules(forced_prefix=[[], []])):
        assert decode(model, PROMPT, max_new_tokens=3, rules=rules).to_list() == free.to_list()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_new_tokens": [2, 3, 4]}, "max_new_tokens must be .* each of the 2. Received: 3"),
        ({"sampling": Sampling(seed=np.arange(3))}, "seed must be one .* of the 2. Received: 3"),
        ({"rules": Rules(repetition_penalty=[1.0] * 4)}, "repetition_penalty must be .*: 4"),
        ({"rules": Rules(forced_prefix=[[1], [2], [3]])}, "forced_prefix must be one .*: 3"),
        ({"beam": Beam(2, tf.ones([3]))}, "length_penalty must be one .*: 3"),
        ({"stop": StopStrings(["a"], [["b"], ["c"], ["d"]])}, "stop must be one .*: 3"),
    ],
)
def test_settings_of_other_rows_are_named(given, says):
    with pytest.raises(InputError, match=says):
        check_rows(2, **{"max_new_tokens": 3} | given)
    check_rows(3 if "4" not in says else 4, **{"max_new_tokens": 3} | given)


def test_prompts_of_no_words_are_named():
    ids = tf.ragged.constant([[1, 2], [], [5, 0, 6], [7]])
    check_ids(ids, 8)
    with pytest.raises(InputError, match=r"prompt 2 must be of the model's 6 .* 5. Received: 6$"):
        check_ids(ids, 6)
    with pytest.raises(InputError, match="prompt 0 .* Received: -1"):
        check_ids(tf.ragged.constant([[-1], [2]]), 8)


def test_a_beam_does_not_draw():
    with pytest.raises(InputError, match="one of beam and sampling. Received: Beam.*Sampling"):
        check_one_mode(Sampling(), Beam(2))
    check_one_mode(Sampling(), None)
    check_one_mode(None, Beam(2))


def test_what_is_known_only_in_the_graph_passes_and_is_defined(model):
    @tf.function(autograph=False)
    def generate(temperature, top_k, top_p, min_p, penalty):
        sampling = Sampling(temperature, top_k, top_p, 3, min_p)
        rules = Rules(repetition_penalty=penalty)
        return decode(model, PROMPT, max_new_tokens=4, sampling=sampling, rules=rules).to_tensor()

    numbers = [np.nan, -1.0, 2.0, np.inf]
    for number in numbers:
        count = tf.constant(-3 if number < 0 else 2**31 - 1)
        tensor = tf.constant(number, tf.float32)
        found = generate(tensor, count, tensor, tensor, tensor).numpy()
        assert found.size == 0 or (0 <= found.min() and found.max() < 6)


def test_a_stream_is_not_for_graphs(model):
    with pytest.raises(InputError, match="use decode inside a tf.function"):
        tf.function(lambda: stream(model, PROMPT, max_new_tokens=2), autograph=False)()
