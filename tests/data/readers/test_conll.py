import pytest

from tfllm.data.readers import Conll
from tfllm.errors import InputError

CONLL_2003 = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
-DOCSTART- -X- O O
Brussels NNP I-NP I-LOC
"""


def test_sentences_and_documents(write):
    path = write("eng.train", CONLL_2003)
    assert list(Conll(path, scheme="iob1")) == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]},
        {"tokens": ["Brussels"], "tags": ["B-LOC"]},
    ]
    parts = [e["tags"] for e in Conll(path, tag_column=1, scheme=None)]
    assert parts == [["NNP", "VBZ"], ["NNP", "NNP"], ["NNP"]]
    assert next(iter(Conll(path, tag_column=None))) == {"tokens": ["EU", "rejects"]}


def test_columns_may_stand_in_any_order(write):
    path = write("a.conll", "B-P\tx\ty\nO\tz\tw\n")
    read = Conll(path, token_column=1, tag_column=0, delimiter="\t")
    assert list(read) == [{"tokens": ["x", "z"], "tags": ["B-P", "O"]}]


def test_other_white_space_can_be_a_token(write):
    path = write("a.conll", "\u3000 O\n\u00a0  \t B-P \n \t \nx O\n")
    assert [e["tokens"] for e in Conll(path)] == [["\u3000", "\u00a0"], ["x"]]


def test_weibo_writes_positions_into_tokens(write):
    text = "科0\tO\n技1\tB-ORG.NOM\n\n310\tO\n10\tO\n0012\tO\n\ufffd\ufffd0\tO\n"
    read = Conll(write("weibo", text), delimiter="\t", positions_in_tokens=True)
    first, second = read
    assert first == {"tokens": ["科", "技"], "tags": ["O", "B-ORG.NOM"]}
    assert second["tokens"] == ["3", "1", "00", "\ufffd\ufffd"]
    with pytest.raises(InputError, match=r"weibo:2 has the token '\\u6280' without a position"):
        list(Conll(write("weibo", "科0\tO\n技\tO\n"), delimiter="\t", positions_in_tokens=True))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("alone", "has 1 columns, fewer than 2"),
        ("x PER", "has the tag 'PER', which iob2 has not: O, B-TYPE, I-TYPE"),
        ("x S-PER", "has the tag 'S-PER', which iob2 has not"),
    ],
)
def test_a_bad_line_takes_its_sentence_along(write, line, reason):
    path = write("a.conll", f"a O\n\nb O\n{line}\nc O\n\nd O\n")
    with pytest.raises(InputError, match=f"one row can't be read: .*a.conll:4 {reason}"):
        list(Conll(path))
    read = Conll(path, on_error="skip")
    assert [e["tokens"] for e in read] == [["a"], ["d"]]
    assert read.skipped.count == 1


def test_an_empty_token_between_tabs(write):
    with pytest.raises(InputError, match="a.conll:2 has no token"):
        list(Conll(write("a.conll", "x\tO\n\tO\n"), delimiter="\t"))


def test_a_scheme_is_one_of_three(write):
    with pytest.raises(InputError, match="scheme must be one of iob1, .* Received: 'bio'"):
        Conll(write("a.conll", "x O\n"), scheme="bio")


def test_a_line_of_other_columns_is_refused(write):
    path = write("a.conll", "EU NNP I-ORG\n\n4 1/2 CD O\n\nGermany NNP I-LOC\n")
    with pytest.raises(InputError, match=r"a\.conll:3 has 4 columns, and the file's first line 3"):
        list(Conll(path, scheme="iob1"))
    left = Conll(path, scheme="iob1", on_error="skip")
    assert [e["tokens"] for e in left] == [["EU"], ["Germany"]]
