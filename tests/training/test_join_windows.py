import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfllm.training.join_windows import best_windows, join_words


def arrays(rows):
    return [np.array(row, np.int32) for row in rows]


def test_by_hand():
    values = arrays([[1, 2, 3], [4, 5], [6]])
    found = join_words(values, arrays([[1, 0, 1], [0, 1], [1]]), np.array([0, 1, 0]))
    assert [words.tolist() for words in found] == [[1, 3, 5], [6]]
    rows = best_windows(np.array([1.0, 3.0, 3.0, 2.0]), np.array([0, 1, 2, 0]))
    assert rows.tolist() == [1, 3]


def test_nothing():
    assert join_words([], [], np.zeros(0, np.int32)) == []
    assert best_windows(np.zeros(0), np.zeros(0, np.int32)).tolist() == []


@given(st.lists(st.lists(st.lists(st.booleans(), max_size=4), min_size=1, max_size=3)))
def test_every_word_once_and_in_order(documents):
    window = np.array([n for rows in documents for n in range(len(rows))], np.int32)
    starts = [np.array(row, np.int32) for rows in documents for row in rows]
    ends = np.cumsum([0, *map(len, starts)])
    values = [np.arange(a, a + len(row)) for a, row in zip(ends, starts, strict=False)]
    found = join_words(values, starts, window)
    assert [len(words) for words in found] == [sum(map(sum, rows)) for rows in documents]
    joined = np.concatenate([*found, [-1]])[:-1].astype(int)
    assert joined.tolist() == np.flatnonzero(np.concatenate([*starts, [0]])).tolist()
    scores = np.array([float(len(row)) for row in starts])
    rows = best_windows(scores, window)
    assert len(rows) == len(documents)
    assert [scores[row] for row in rows] == [max(map(len, rows)) for rows in documents]
