import json

import pytest

from tfllm.data.readers import SquadParagraphs
from tfllm.errors import InputError


def squad(*articles) -> str:
    data = [
        {"title": title, "paragraphs": [{"context": text} for text in texts]}
        for title, texts in articles
    ]
    return json.dumps({"data": data})


def test_each_paragraph_is_a_document(write):
    path = write("a.json", squad(("Super_Bowl", ["One 😀.", "Two."]), ("Mill", ["Three."])))
    assert list(SquadParagraphs(path)) == [
        {"id": "Super_Bowl:1", "title": "Super Bowl", "text": "One 😀."},
        {"id": "Super_Bowl:2", "title": "Super Bowl", "text": "Two."},
        {"id": "Mill:1", "title": "Mill", "text": "Three."},
    ]


@pytest.mark.parametrize(
    ("text", "reason"), [("  ", "'context' is blank"), (None, "is null"), (3, "is 3, not text")]
)
def test_a_paragraph_without_text_is_named_by_its_number(write, text, reason):
    path = write("a.json", squad(("Mill", ["One.", text]), ("Sea", ["Two."])))
    with pytest.raises(InputError, match=rf"a.json:2 \(paragraph 2\) .*{reason}"):
        list(SquadParagraphs(path))
    assert [row["id"] for row in SquadParagraphs(path, on_error="skip")] == ["Mill:1", "Sea:1"]


def test_another_format(write):
    with pytest.raises(InputError, match="is no SQuAD file: it has no list 'paragraphs'"):
        list(SquadParagraphs(write("a.json", '{"data": [{}]}')))
