import gzip
import json

import pytest

from tfllm.data.readers import Squad
from tfllm.errors import InputError

CONTEXT = "The 😀 café opened in 1990."


def squad(questions, context=CONTEXT) -> str:
    paragraphs = [{"context": context, "qas": questions}]
    return json.dumps({"version": "v2.0", "data": [{"title": "Café", "paragraphs": paragraphs}]})


def question(**changes):
    asked = {"id": "q1", "question": "When?", "answers": [{"text": "1990", "answer_start": 21}]}
    return {key: value for key, value in (asked | changes).items() if value is not None}


def test_answers_stand_at_code_points(write):
    (example,) = Squad(write("a.json", squad([question()])))
    assert example == {
        "id": "q1",
        "title": "Café",
        "question": "When?",
        "context": CONTEXT,
        "answers": ["1990"],
        "answer_starts": [21],
        "is_impossible": False,
    }
    assert CONTEXT[21:25] == "1990"


def test_packed_files(write):
    (example,) = Squad(write("a.json.gz", gzip.compress(squad([question()]).encode())))
    assert example["answers"] == ["1990"]


def test_version_2_has_questions_without_an_answer(write):
    impossible = question(
        is_impossible=True, answers=[], plausible_answers=[{"text": "x", "answer_start": 0}]
    )
    first, second = Squad(write("a.json", squad([question(is_impossible=False), impossible])))
    assert (first["is_impossible"], first["answers"]) == (False, ["1990"])
    assert (second["is_impossible"], second["answers"]) == (True, [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answers": [{"text": "1990", "answer_start": 20}]}, "'1990' at 20, .* has ' 199'"),
        ({"answers": [{"text": "1990", "answer_start": -6}]}, "'1990' at -6"),
        ({"answers": [{"text": "", "answer_start": 0}]}, "'' at 0"),
        ({"answers": [{"text": "1990"}]}, "has no field 'answer_start'"),
        ({"answers": ["1990"]}, "an answer that is no JSON object"),
        ({"answers": []}, "has no answer and is not called impossible"),
        ({"answers": None}, "has no list 'answers'"),
        ({"question": None}, "has no field 'question'"),
        ({"question": 3}, "field 'question' is 3, not text"),
        ({"question": " "}, "field 'question' is blank"),
    ],
)
def test_bad_questions_are_named_by_number_and_id(write, changes, reason):
    path = write("a.json", squad([question(), question(id="q2", **changes), question()]))
    with pytest.raises(InputError, match=rf"one row .*a.json:2 \(question 'q2'\) .*{reason}"):
        list(Squad(path))
    assert [e["id"] for e in Squad(path, on_error="skip")] == ["q1", "q1"]


def test_questions_that_are_to_be_answered(write):
    path = write("a.json", squad([question(answers=None), question(answers=[])]))
    assert [e["answers"] for e in Squad(path, needs_answers=False)] == [[], []]


def test_other_faults_of_a_question(write):
    with pytest.raises(InputError, match="a.json:1 .*is no JSON object"):
        list(Squad(write("a.json", squad(["When?"]))))
    with pytest.raises(InputError, match=r"\(question 'q1'\) field 'context' is null"):
        list(Squad(write("a.json", squad([question()], context=None))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [\n}', r"a.json:2 is no JSON: .* at column 1"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "is no SQuAD file: it has no list 'data'"),
        ('{"data": {}}', "has no list 'data'"),
        ('{"data": [[]]}', "has no list 'paragraphs'"),
        ('{"data": [{"paragraphs": [{}]}]}', "has no list 'qas'"),
        ('{"data": []}', "there is no example"),
        (b'{"data": "\xff"}', "is not UTF-8: byte 0xff at offset 10"),
        ("", "a.json is empty"),
        ('{"data": ' + "1" * 5000 + "}", "a.json can't be read: Exceeds the limit"),
    ],
)
def test_files_of_another_format(write, content, message):
    with pytest.raises(InputError, match=message):
        list(Squad(write("a.json", content)))
