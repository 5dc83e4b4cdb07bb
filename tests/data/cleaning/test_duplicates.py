import random
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.cleaning import Cleaner, ExactDuplicates, NearDuplicates
from tfllm.data.cleaning.digest_set import DigestSet
from tfllm.errors import InputError

# Digests that crowd into few slots, so that they collide and wrap around.
crowded = st.tuples(st.sampled_from([b"\0", b"\xff", b"\x01"]), st.binary(min_size=2, max_size=2))


@given(st.lists(crowded))
def test_digests_are_held_as_in_a_set(parts):
    mine, theirs = DigestSet(), set()
    for first, rest in parts:
        # The lowest bit of the second half is not kept.
        digest = first * 8 + b"\0" * 6 + bytes([rest[0] & 0xFE, rest[1]])
        assert mine.add(digest) == (digest not in theirs)
        theirs.add(digest)
        assert len(mine) == len(theirs)


def test_many_digests_and_their_memory():
    digests = [random.Random(i).randbytes(16) for i in range(20_000)]
    tracemalloc.start()
    mine = DigestSet()
    assert all(mine.add(digest) for digest in digests)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not any(mine.add(digest) for digest in digests)
    assert len(mine) == 20_000 and size <= 43 * 20_000


def kept(step, documents) -> list[int]:
    numbered = [f"{document}" for document in documents]
    found = list(Cleaner([step]).clean(numbered))
    places, start = [], 0
    for document in found:
        start = numbered.index(document, start) + 1
        places.append(start - 1)
    return places


def test_equal_but_for_case_white_space_and_width():
    documents = [
        "Hello  World",
        "hello\nworld ",
        "ｈｅｌｌｏ world",
        "hello, world",
        "STRASSE",
        "Straße",
    ]
    assert kept(ExactDuplicates(), documents) == [0, 3, 4]


def words(seed: int, count: int = 200) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefgh", k=5)) for _ in range(count)]


def jaccard(a: list[str], b: list[str], length: int) -> float:
    runs = [{tuple(text[i : i + length]) for i in range(len(text) - length + 1)} for text in (a, b)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def changed(text: list[str], places: int, replacement: str) -> list[str]:
    step = len(text) // places
    return [replacement if i % step == 0 and i < places * step else t for i, t in enumerate(text)]


def test_documents_much_alike_are_found_and_others_kept():
    pytest.importorskip("datasketch")
    one, other = words(1), words(2)
    near, far = changed(one, 2, "changed"), changed(one, 20, "changed")
    assert jaccard(one, near, 5) > 0.9 and jaccard(one, far, 5) < 0.5
    documents = [" ".join(text) for text in (one, other, near, far, [w.upper() for w in one])]
    cleaner = Cleaner([NearDuplicates()])
    assert list(cleaner.clean(documents)) == [documents[0], documents[1], documents[3]]
    reasons = [e["reason"] for e in cleaner.report()["near_duplicates"]["examples"]]
    assert reasons[1] == "1.00 like one that stood before"
    assert 0.8 <= float(reasons[0][:4]) < 1


def test_chinese_is_compared_by_characters():
    pytest.importorskip("datasketch")
    one = [chr(0x4E00 + i * 7 % 2_000) for i in range(300)]
    near, far = changed(one, 2, "变"), changed(one, 20, "变")
    assert jaccard(one, near, 10) > 0.85 and jaccard(one, far, 10) < 0.3
    documents = ["".join(text) for text in (one, near, far)]
    assert list(Cleaner([NearDuplicates()]).clean(documents)) == [documents[0], documents[2]]


def test_short_documents_are_compared_whole():
    pytest.importorskip("datasketch")
    assert kept(NearDuplicates(), ["a b", "a b c", "A  B", "x"]) == [0, 1, 3]


def test_most_pairs_above_the_threshold_are_found():
    """At a similarity of 0.9, of a hundred pairs."""
    pytest.importorskip("datasketch")
    pairs = [(words(i, 100), changed(words(i, 100), 1, "changed")) for i in range(100)]
    assert all(0.89 < jaccard(a, b, 5) < 1 for a, b in pairs)
    documents = [" ".join(text) for pair in pairs for text in pair]
    assert len(list(Cleaner([NearDuplicates()]).clean(documents))) <= 105


def test_near_duplicates_are_the_same_in_every_process():
    pytest.importorskip("datasketch")
    code = """
import random
from tfllm.data.cleaning import Cleaner, NearDuplicates
draw = random.Random(0)
base = [f"w{draw.randrange(999)}" for _ in range(60)]
swap = lambda word: draw.choice("xyz") if draw.random() < 0.02 else word
texts = [" ".join(map(swap, base)) for _ in range(40)]
print([texts.index(t) for t in Cleaner([NearDuplicates()]).clean(texts)])
"""
    outs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            text=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    }
    (out,) = outs
    assert 1 < len(out.split()) < 40


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    message = r"needs datasketch, which is not installed.*pip install 'tfllm\[clean\]'"
    with pytest.raises(InputError, match=message):
        next(Cleaner([NearDuplicates()]).clean(["a"]))
