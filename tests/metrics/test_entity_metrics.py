import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm import metrics
from tfllm.errors import InputError

GOLD = ["B-PER", "I-PER", "O", "B-LOC"]


def test_an_entity_is_right_as_a_whole():
    found = metrics.entities([GOLD], [["B-PER", "O", "O", "B-LOC"]])
    assert found == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "f1/LOC": 1.0,
        "f1/PER": 0.0,
        "illegal_sequences": 0.0,
    }


def test_a_shifted_prediction():
    true = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["B-ORG", "B-ORG", "O"]]
    shifted = [[tags[-1], *tags[:-1]] for tags in true]
    assert shifted == [["O", "B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG", "B-ORG"]]
    # Of four entities and four predictions one has its own place: the second ORG, at word 2.
    found = metrics.entities(true, shifted)
    assert (found["precision"], found["recall"], found["f1"]) == (0.25, 0.25, 0.25)
    assert (found["f1/PER"], found["f1/LOC"], found["f1/ORG"]) == (0.0, 0.0, 0.5)


def test_neighbours_of_one_type_are_two():
    found = metrics.entities([["B-PER", "B-PER"]], [["B-PER", "I-PER"]])
    assert found["f1"] == 0.0


def test_an_inside_tag_begins_nothing():
    found = metrics.entities([GOLD], [["I-PER", "I-PER", "O", "B-LOC"]])
    assert (found["precision"], found["recall"], found["illegal_sequences"]) == (1.0, 0.5, 1.0)
    found = metrics.entities([["O", "O"], ["O"]], [["I-X", "O"], ["O"]])
    assert found["f1/X"] == found["f1"] == 0.0 and found["illegal_sequences"] == 1.0


def test_nothing_to_find():
    empty = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "illegal_sequences": 0.0}
    assert metrics.entities([], []) == metrics.entities([["O"]], [["O"]]) == empty
    assert metrics.entities([[]], [[]]) == empty


def test_what_can_not_be_compared():
    with pytest.raises(InputError, match=r"sentence 2 has 1 true tags and 2 predicted"):
        metrics.entities([["O"], ["O"]], [["O"], ["O", "O"]])
    with pytest.raises(InputError, match=r"tag 'PER' is not of the scheme iob2"):
        metrics.entities([["PER"]], [["O"]])
    with pytest.raises(InputError, match=r"2 sentences have true tags and 1"):
        metrics.tagging([["O"], ["O"]], [["O"]])


TAGS = st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"])
SENTENCES = st.lists(st.lists(st.tuples(TAGS, TAGS), max_size=6), max_size=4)


def spans(tags: list[str]) -> set[tuple[int, int, str]]:
    """Read an entity at each `B-`, as far as its `I-` go."""
    found = set()
    for start, tag in enumerate(tags):
        if tag.startswith("B-"):
            end = start + 1
            while end < len(tags) and tags[end] == f"I-{tag[2:]}":
                end += 1
            found.add((start, end, tag[2:]))
    return found


def is_broken(tags: list[str]) -> bool:
    pairs = zip(["O", *tags], tags, strict=False)
    return any(tag[0] == "I" and before[1:] != tag[1:] for before, tag in pairs)


@given(SENTENCES)
def test_f1_by_sets_of_spans(sentences):
    true, predicted = ([[pair[side] for pair in s] for s in sentences] for side in (0, 1))
    found = metrics.entities(true, predicted)
    a = {(i, *span) for i, tags in enumerate(true) for span in spans(tags)}
    b = {(i, *span) for i, tags in enumerate(predicted) for span in spans(tags)}
    assert found["f1"] == pytest.approx(2 * len(a & b) / max(1, len(a) + len(b)))
    for kind in "AB":
        some, others = ({span for span in side if span[-1] == kind} for side in (a, b))
        expected = 2 * len(some & others) / max(1, len(some) + len(others))
        assert found.get(f"f1/{kind}", 0.0) == pytest.approx(expected)
    assert found["illegal_sequences"] == sum(map(is_broken, predicted))


def test_tagging_by_hand():
    found = metrics.tagging([["D", "N"], ["N"]], [["D", "V"], ["N"]])
    assert found == pytest.approx(
        {
            "accuracy": 2 / 3,
            "sentence_accuracy": 1 / 2,
            "macro_f1": (1 + 2 / 3 + 0) / 3,
            "f1/D": 1.0,
            "f1/N": 2 / 3,
            "f1/V": 0.0,
        }
    )
    assert metrics.tagging([[]], [[]])["accuracy"] == 0.0
