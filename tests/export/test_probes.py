import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfllm.export import AWKWARD_TEXTS
from tfllm.export.probes import Case, batches, warmup_requests


def test_rows_are_cut_into_sevens_twos_and_ones():
    cut = list(batches({"texts": ["a", "b", "c"], "seed": [5]}))
    assert [request["texts"] for request in cut] == [
        ["a", "b", "c", "a", "b", "c", "a"],
        ["a", "b"],
        ["a"],
        ["c", "a"],
        ["b"],
        ["c"],
    ]
    assert [len(request["seed"]) for request in cut] == [7, 2, 1, 2, 1, 1]


def test_awkward_texts_hold_what_breaks_tokenizers():
    assert "" in AWKWARD_TEXTS
    assert any(isinstance(text, bytes) and b"\xff" in text for text in AWKWARD_TEXTS)
    joined = "".join(text for text in AWKWARD_TEXTS if isinstance(text, str))
    assert all(mark in joined for mark in ("\x00", "今", "🙂", "[MASK]", "<|endoftext|>", "'"))
    assert max(len(text) for text in AWKWARD_TEXTS) >= 3000


@given(st.lists(st.binary(), min_size=1), st.lists(st.floats(width=32), min_size=1))
def test_a_case_survives_json_bit_for_bit(texts, numbers):
    column = np.empty(len(texts), dtype=object)
    column[:] = texts
    case = Case("s", {"texts": column}, {"numbers": np.array(numbers, np.float32)[:, None]})
    again = Case.from_json(case.to_json())
    assert again.signature == "s" and again.inputs["texts"].tolist() == texts
    answer = again.answers["numbers"]
    assert answer.dtype == np.float32 and answer.shape == (len(numbers), 1)
    assert answer.tobytes() == case.answers["numbers"].tobytes()


def test_a_server_warms_up_with_each_width():
    def case(signature, texts):
        column = np.array([text.encode() for text in texts], dtype=object)
        return Case(signature, {"text": column}, {"y": np.zeros(len(texts), np.float32)})

    cases = [case("a", ["x", "x" * 9]), case("a", ["", "x" * 5, "x" * 3]), case("b", ["yy"])]
    requests = warmup_requests(cases)
    found = [(r.signature, len(r.inputs["text"][0]), len(r.inputs["text"])) for r in requests]
    assert found == [("a", 0, 1), ("a", 3, 1), ("a", 9, 1), ("b", 2, 1)]
    assert not any(request.answers for request in requests)
