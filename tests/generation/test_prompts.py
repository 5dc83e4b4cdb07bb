import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.generation.prompts import left_padded, ready_prompts


def test_left_padded_by_hand():
    ids, mask = left_padded(tf.ragged.constant([[5], [6, 7], []], dtype=tf.int32))
    assert ids.numpy().tolist() == [[0, 5], [6, 7], [0, 0]]
    assert mask.numpy().tolist() == [[0, 1], [1, 1], [0, 0]]


def test_the_last_new_token_takes_no_column():
    prompts = ready_prompts(tf.ragged.constant([[5], [6, 7]]), tf.constant([4, 1]), 5)
    assert int(prompts.width) == 2
    assert int(prompts.columns) == 5
    assert prompts.padding.numpy().tolist() == [1, 0]


def test_sliding_keeps_the_end_that_leaves_room():
    ids = tf.ragged.constant([[1, 2, 3, 4, 5, 6, 7], [8], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]])
    prompts = ready_prompts(ids, tf.constant([3, 2, 1, 0]), 5, slide=True)
    rows = [row[row > 0].tolist() for row in prompts.ids.numpy()]
    assert rows == [[5, 6, 7], [8], [1, 2, 3, 4], [2, 3, 4, 5, 6]]
    with pytest.raises(InputError, match="exceed the model's 5 positions"):
        ready_prompts(ids, tf.constant([3, 2, 1, 0]), 5)


def test_sliding_makes_no_room_for_more_new_tokens_than_there_are_positions():
    # One prompt token stays, and the last new one takes no position: 5 new ones fit in 5.
    prompts = ready_prompts(tf.constant([[1, 2, 3]]), 5, 5, slide=True)
    assert prompts.ids.numpy().tolist() == [[3]]
    with pytest.raises(InputError, match="exceed"):
        ready_prompts(tf.constant([[1, 2, 3]]), 6, 5, slide=True)


def test_an_empty_row_is_refused():
    with pytest.raises(InputError, match="start token"):
        ready_prompts(tf.ragged.constant([[1], []], dtype=tf.int32), 1, 5, slide=True)


def test_in_a_graph_the_graph_refuses():
    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)], autograph=False)
    def ready(ids):
        return ready_prompts(ids, 3, 4).ids

    with pytest.raises(tf.errors.InvalidArgumentError, match="prompt and max_new_tokens exceed"):
        ready(tf.ragged.constant([[1], [1, 2, 3]], dtype=tf.int32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="start token"):
        ready(tf.ragged.constant([[1], []], dtype=tf.int32))
    assert ready(tf.ragged.constant([[1], [1, 2]], dtype=tf.int32)).shape == (2, 2)
