"""What is counted and who sees whom, against plain loops."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, RobertaConfig

from tfllm.models.backbones import xlnet
from tfllm.models.backbones.families import FAMILIES
from tfllm.models.backbones.post_norm import _position_numbers, visible_pairs

ROWS = st.integers(1, 12).flatmap(
    lambda n: st.lists(
        st.tuples(
            st.lists(st.integers(0, 1), min_size=n, max_size=n),
            st.lists(st.integers(1, 3), min_size=n, max_size=n).map(sorted),
        ),
        min_size=1,
        max_size=3,
    )
)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 3))
def test_the_score_of_each_distance_is_picked(tokens, heads):
    by_distance = np.arange(heads * tokens * 2 * tokens, dtype=np.float32)
    by_distance = by_distance.reshape(1, heads, tokens, 2 * tokens)
    found = xlnet._shift(tf.constant(by_distance)).numpy()
    for query in range(tokens):
        for key in range(tokens):
            column = tokens - (query - key)
            expected = by_distance[0, :, query, column]
            np.testing.assert_array_equal(found[0, :, query, key], expected)


@settings(max_examples=40)
@given(ROWS)
def test_who_sees_whom(rows):
    mask, segments = (np.array(part, np.int32) for part in zip(*rows, strict=True))
    expected = [
        [[bool(m[k]) and s[q] == s[k] for k in range(mask.shape[1])] for q in range(mask.shape[1])]
        for m, s in zip(mask, segments, strict=True)
    ]
    found = visible_pairs({"attention_mask": mask, "segment_ids": tf.constant(segments)})
    np.testing.assert_array_equal(found, expected)
    alone = visible_pairs({"attention_mask": mask})
    np.testing.assert_array_equal(alone, mask[:, None, :].astype(bool))
    assert visible_pairs({}) is None


@settings(max_examples=40)
@given(ROWS)
def test_positions(rows):
    mask, segments = (np.array(part, np.int32) for part in zip(*rows, strict=True))
    x = tf.zeros([*mask.shape, 2])

    def numbers(kind: str, **features: np.ndarray) -> np.ndarray:
        config = {"bert": BertConfig(), "roberta": RobertaConfig()}[kind]
        features = {name: tf.constant(array) for name, array in features.items()}
        found = _position_numbers(FAMILIES[kind], config, features, x)
        return np.broadcast_to(found, mask.shape)

    tokens = mask.shape[1]
    counted = [[sum(m[: i + 1]) + 1 if m[i] else 1 for i in range(tokens)] for m in mask]
    np.testing.assert_array_equal(numbers("roberta", attention_mask=mask), counted)
    np.testing.assert_array_equal(numbers("bert", attention_mask=mask)[0], range(tokens))
    within = [[i - s.tolist().index(s[i]) for i in range(tokens)] for s in segments]
    np.testing.assert_array_equal(numbers("bert", segment_ids=segments), within)
    np.testing.assert_array_equal(numbers("roberta", segment_ids=segments), np.add(within, 2))
