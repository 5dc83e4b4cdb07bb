import json

import pytest

from tfllm.data.tasks import read_documents
from tfllm.errors import InputError


def written(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_beirs_layout_and_json_lines(tmp_path):
    rows = [{"_id": "4", "title": "Cats", "text": "They purr.", "metadata": {}}]
    rows.append({"_id": "9", "text": " It rains. "})
    path = written(tmp_path / "corpus.jsonl", rows)
    wanted = [
        {"id": "4", "title": "Cats", "text": "Cats They purr."},
        {"id": "9", "title": "", "text": "It rains."},
    ]
    assert list(read_documents([str(tmp_path)])) == wanted
    assert list(read_documents([str(path)])) == wanted


def test_tables_and_lines(tmp_path):
    table = tmp_path / "a.tsv"
    table.write_text("number\tname\tbody\n7\tCats\tThey purr.\n")
    fields = {"document_id": "number", "title": "name", "text": "body"}
    assert list(read_documents([str(table)], **fields)) == [
        {"id": "7", "title": "Cats", "text": "Cats They purr."}
    ]
    for name, text in (("a.txt", "one\n\nthree\n"), ("b.txt", "four\n")):
        (tmp_path / name).write_text(text)
    found = list(read_documents([str(tmp_path / "*.txt")]))
    assert [(row["id"], row["text"]) for row in found] == [
        ("1", "one"),
        ("3", "three"),
        ("4", "four"),
    ]


def test_bad_documents_are_named_with_their_lines(tmp_path):
    rows = [{"_id": "4", "text": "x"}, {"_id": "5", "text": "y"}, {"_id": "4", "text": "z"}]
    path = written(tmp_path / "twice.jsonl", rows)
    with pytest.raises(InputError, match=r"twice.jsonl:3 has the id '4' of .*twice.jsonl:1"):
        list(read_documents([str(path)]))
    assert len(list(read_documents([str(path)], on_error="skip"))) == 2
    path = written(tmp_path / "empty.jsonl", [rows[0], {"_id": "5", "title": "t", "text": "  "}])
    with pytest.raises(InputError, match=r"empty.jsonl:2 .*'text' is blank"):
        list(read_documents([str(path)]))
    path = written(tmp_path / "nameless.jsonl", [{"_id": "", "text": "x"}])
    with pytest.raises(InputError, match=r"nameless.jsonl:1 has a blank id"):
        list(read_documents([str(path)]))
    with pytest.raises(InputError, match="--corpus"):
        read_documents([str(tmp_path / "none.jsonl")])


def test_other_bytes_are_another_source(tmp_path):
    one = read_documents([str(written(tmp_path / "a.jsonl", [{"_id": "1", "text": "x"}]))])
    same = read_documents([str(written(tmp_path / "b.jsonl", [{"_id": "1", "text": "x"}]))])
    other = read_documents([str(written(tmp_path / "c.jsonl", [{"_id": "2", "text": "x"}]))])
    assert one.digest() == same.digest() != other.digest()


def test_paragraphs_of_squad(tmp_path):
    path = tmp_path / "dev.json"
    paragraphs = [{"context": "It turns. ", "qas": []}]
    path.write_text(json.dumps({"data": [{"title": "The_Mill", "paragraphs": paragraphs}]}))
    wanted = {"id": "The_Mill:1", "title": "The Mill", "text": "The Mill It turns."}
    assert list(read_documents([str(path)])) == [wanted]
