"""Whether a row's answer depends on its neighbours, or is a near tie."""

import numpy as np
import pytest

from tfllm.export import ExportError
from tfllm.export.answer_checks import Neighbours
from tfllm.export.probes import Case


def case(*texts, signature="serving_default"):
    return Case(signature, {"text": np.array(texts, dtype=object)}, {})


def answers(labels, scores):
    return {"label": np.array(labels, object), "scores": np.array(scores, np.float32)}


ALONE = answers([b"pos"], [[0.9, 0.1]])


@pytest.mark.parametrize(
    ("now", "name"),
    [
        (answers([b"neg", b"pos"], [[0.1, 0.9], [0.9, 0.1]]), "scores"),
        (answers([b"pos", b"pos"], [[0.1, 0.9], [0.9, 0.1]]), "scores"),
        (answers([b"neg", b"pos"], [[0.9, 0.1002], [0.9, 0.1]]), "scores"),
    ],
)
def test_a_number_that_moves_is_refused_whatever_turns_with_it(now, name):
    neighbours = Neighbours(1e-5)
    neighbours.check(case(b"a"), ALONE)
    with pytest.raises(ExportError, match=f"'{name}' depends on a row's neighbours"):
        neighbours.check(case(b"a", b"b"), now)


def test_one_near_tie_of_each_signature_is_forgiven():
    tie = answers([b"neg", b"pos"], [[0.90001, 0.09999], [0.9, 0.1]])
    neighbours = Neighbours(1e-5)
    for signature in ("serving_default", "again"):
        neighbours.check(case(b"a", signature=signature), ALONE)
        neighbours.check(case(b"a", b"b", signature=signature), tie)
    with pytest.raises(ExportError, match="'label' depends on a row's neighbours"):
        neighbours.check(case(b"a", b"b"), tie)


def test_a_tie_may_change_how_many_numbers_there_are():
    """Two entities more, with their scores."""
    one = {"entity": np.array([[b"Ann"]], object), "score": np.array([[0.6]], np.float32)}
    two = {
        "entity": np.array([[b"Ann", b"Lee", b"Oslo"]], object),
        "score": np.array([[0.6, 0.5, 0.7]], np.float32),
    }
    neighbours = Neighbours(1e-5)
    neighbours.check(case(b"a"), one)
    neighbours.check(case(b"a"), two)
    with pytest.raises(ExportError, match="neighbours"):
        neighbours.check(case(b"a"), two)
