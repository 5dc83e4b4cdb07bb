import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfllm import metrics


def test_by_hand():
    lengths = metrics.length_buckets(np.array([3, 8, 9, 600]))
    assert lengths == ["0-8", "0-8", "9-16", "513-"]
    found = metrics.slices(
        np.array([True, False, True, True]), {"label": ["b", "a", "a", "b"], "length": lengths}
    )
    assert found == {
        "accuracy/label b": 1.0,
        "accuracy/label a": 0.5,
        "accuracy/length 0-8": 0.5,
        "accuracy/length 9-16": 1.0,
        "accuracy/length 513-": 1.0,
    }
    assert list(found)[:2] == ["accuracy/label b", "accuracy/label a"]


def test_no_rows():
    assert metrics.slices(np.zeros(0, bool), {"label": []}) == {}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), min_size=1), st.integers(1, 20))
def test_slices_make_up_the_whole(rows, bound):
    correct, lengths = map(np.array, zip(*rows, strict=True))
    buckets = metrics.length_buckets(lengths, [bound, 2 * bound])
    found = metrics.slices(correct, {"length": buckets})
    total = sum(found[f"accuracy/length {bucket}"] for bucket in buckets)
    assert np.isclose(total, correct.sum())
    for length, bucket in zip(lengths, buckets, strict=True):
        first, last = bucket.split("-")
        assert int(first) <= length <= int(last or length)
