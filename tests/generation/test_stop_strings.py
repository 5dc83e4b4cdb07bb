"""Stop strings against Python's `in`, with words that split characters anywhere."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.generation import Sampling, StopStrings, decode
from tfllm.generation.stop_bytes import StopBytes

pieces = st.binary(max_size=4) | st.sampled_from(["é", "日", "🙂", "ab", ""]).map(str.encode)
stop_lists = st.lists(st.binary(max_size=5), max_size=3)


def first_stop(text: bytes, stops: list[bytes]) -> tuple[int, int] | None:
    """Where the stop string starts and ends that is completed first, the longest of several."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if ended:
            return end - max(map(len, ended)), end
    return None


# Bytes of two letters make matches likely.
@st.composite
def texts_of_tokens(draw):
    piece = st.lists(st.sampled_from(b"ab"), max_size=4).map(bytes) | pieces
    stop = st.lists(st.sampled_from(b"ab"), max_size=5).map(bytes) | pieces
    rows = draw(st.integers(1, 3))
    steps = draw(st.integers(1, 5))
    tokens = [draw(st.lists(piece, min_size=steps, max_size=steps)) for _ in range(rows)]
    count = draw(st.integers(0, 3))
    own = draw(st.booleans())
    stops = [draw(st.lists(stop, min_size=count, max_size=count)) for _ in range(rows)]
    return tokens, stops if own else stops[:1] * rows, own


@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.string),
        tf.TensorSpec([None, None], tf.string),
        tf.TensorSpec([None, None], tf.int32),
    ],
    autograph=False,
)
def followed(words, stops, ids):
    """After which token of each row a stop string was completed: `<bool>[batch, tokens]`."""
    ready = StopStrings(words, stops).ready()
    return follow_all(ready, ids)


def follow_all(ready: StopBytes, ids: tf.Tensor) -> tf.Tensor:
    rows, steps = tf.unstack(tf.shape(ids))
    found = tf.TensorArray(tf.bool, size=steps, element_shape=[None])

    def step(i, tail, found):
        stopped, tail = ready.follow(tail, ids[:, i])
        return i + 1, tail, found.write(i, stopped)

    _, _, found = tf.while_loop(
        lambda i, *_: i < steps, step, (tf.constant(0), ready.begin(rows), found)
    )
    return tf.transpose(found.stack())


@settings(max_examples=30)
@given(texts_of_tokens())
def test_a_row_stops_in_the_token_that_completes_a_stop_string(case):
    tokens, stops, own = case
    words = sorted({word for row in tokens for word in row})
    ids = tf.constant([[words.index(word) for word in row] for row in tokens])
    given_stops = tf.constant(
        stops if own else stops[:1], tf.string, [len(stops) if own else 1, len(stops[0])]
    )
    found = followed(tf.constant(words), given_stops, ids).numpy()
    for row, (pieces, wanted) in enumerate(zip(tokens, stops, strict=True)):
        for step in range(len(pieces)):
            before, after = b"".join(pieces[:step]), b"".join(pieces[: step + 1])
            # Completed within this token: it ends behind what was there before.
            completed = any(
                after[:end].endswith(stop)
                for stop in wanted
                if stop
                for end in range(len(before) + 1, len(after) + 1)
            )
            assert found[row, step] == completed


@settings(max_examples=30)
@given(texts_of_tokens())
def test_cut_removes_the_stop_string_that_is_completed_first(case):
    tokens, stops, own = case
    texts = [b"".join(row) for row in tokens]
    given_stops = tf.constant(stops, tf.string, [len(stops), len(stops[0])])
    cut = StopStrings(tf.constant(["unused"]), given_stops if own else given_stops[0])
    found = cut.cut(tf.constant(texts)).numpy().tolist()
    for text, wanted, left in zip(texts, stops, found, strict=True):
        place = first_stop(text, wanted)
        assert left == (text if place is None else text[: place[0]])


def test_decoding_ends_rows_and_cut_gives_their_texts(tiny_model):
    model = tiny_model(words=8, seed=1)
    words = [b"a", b"bc", "é".encode()[:1], "é".encode()[1:], b" c", b"ca", b"", b"\n"]
    prompts = tf.constant([[1, 2], [3, 0], [5, 5], [7, 1]])
    sampling = Sampling(temperature=1.5, seed=tf.range(4))
    free = decode(model, prompts, max_new_tokens=20, sampling=sampling).to_list()
    stops = [["bca", ""], ["é", "\n"], ["nowhere", "c c"], ["", ""]]
    stop = StopStrings(tf.constant(words), tf.constant(stops))
    held = decode(model, prompts, max_new_tokens=20, sampling=sampling, stop=stop).to_list()
    ended = 0
    for row in range(4):
        texts = [b"".join(words[i] for i in free[row][:n]) for n in range(21)]
        wanted = [stop.encode() for stop in stops[row]]
        hits = [n for n, text in enumerate(texts) if first_stop(text, wanted)]
        assert held[row] == free[row][: hits[0] if hits else 20]
        ended += bool(hits)
    assert ended >= 2
    joined = tf.constant([b"".join(words[i] for i in row) for row in held])
    for text, wanted, whole in zip(stop.cut(joined).numpy(), stops, joined.numpy(), strict=True):
        place = first_stop(whole, [stop.encode() for stop in wanted])
        assert text == (whole if place is None else whole[: place[0]])


def test_a_stop_string_of_too_many_bytes_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 256 bytes"):
        StopStrings(tf.constant(["a"]), tf.constant(["a" * 257])).ready()


def test_no_rows_and_no_stop_strings():
    stop = StopStrings(tf.constant(["a"]), tf.constant([], tf.string))
    assert stop.cut(tf.constant(["abc", ""])).numpy().tolist() == [b"abc", b""]
    nobody = StopStrings(tf.constant(["a"]), tf.zeros([0, 2], tf.string))
    assert nobody.cut(tf.constant([], tf.string)).numpy().tolist() == []
    assert np.shape(nobody.ready().begin(tf.constant(0))) == (0, 0)
