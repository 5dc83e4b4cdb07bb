from tfllm.export import AWKWARD_TEXTS
from tfllm.export.probes import batches


def test_rows_are_cut_into_ones_twos_and_sevens():
    cut = list(batches({"texts": ["a", "b", "c"], "seed": [5]}))
    assert [request["texts"] for request in cut] == [
        ["a"],
        ["b"],
        ["c"],
        ["a", "b"],
        ["c", "a"],
        ["a", "b", "c", "a", "b", "c", "a"],
    ]
    assert [len(request["seed"]) for request in cut] == [1, 1, 1, 2, 2, 7]


def test_awkward_texts_hold_what_breaks_tokenizers():
    assert "" in AWKWARD_TEXTS
    assert any(isinstance(text, bytes) and b"\xff" in text for text in AWKWARD_TEXTS)
    joined = "".join(text for text in AWKWARD_TEXTS if isinstance(text, str))
    assert all(mark in joined for mark in ("\x00", "今", "🙂", "[MASK]", "<|endoftext|>", "'"))
    assert max(len(text) for text in AWKWARD_TEXTS) >= 3000
