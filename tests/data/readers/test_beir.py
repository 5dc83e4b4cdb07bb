import gzip

import pytest

from tfllm.data.readers import Beir
from tfllm.errors import InputError

CORPUS = (
    '{"_id": "d1", "title": "One", "text": "first", "metadata": {}}\n'
    '{"_id": "d2", "text": "second"}\n'
    '{"_id": "d3", "title": "", "text": "never judged"}\n'
)
QUERIES = '{"_id": "1", "text": "which?"}\n{"_id": "2", "text": "what?"}\n'
JUDGED = "query-id\tcorpus-id\tscore\r\n2\td1\t1\r\n1\td2\t2\r\n"


@pytest.fixture
def folder(write, tmp_path):
    write("set/corpus.jsonl", CORPUS)
    write("set/queries.jsonl", QUERIES)
    write("set/qrels/test.tsv", JUDGED)
    return tmp_path / "set"


def test_judged_pairs_in_the_order_of_the_judgements(folder):
    read = Beir(folder)
    first, second = read
    assert first == {
        "query_id": "2",
        "query": "what?",
        "document_id": "d1",
        "title": "One",
        "document": "first",
        "score": 1,
    }
    assert (second["query"], second["title"], second["score"]) == ("which?", "", 2)
    assert [e["id"] for e in read.documents] == ["d1", "d2", "d3"]
    assert list(read.queries)[0] == {"id": "1", "text": "which?"}
    assert list(read.judgements)[1] == {"query_id": "1", "document_id": "d2", "score": 2}
    assert read.name == "set"


def test_packed_parts(folder, write):
    (folder / "corpus.jsonl").unlink()
    write("set/corpus.jsonl.gz", gzip.compress(CORPUS.encode()))
    assert len(list(Beir(folder))) == 2


def test_judgements_of_what_is_not_there(folder, write):
    write("set/qrels/test.tsv", JUDGED + "7\td1\t1\n1\td7\t1\n1\td1\tx\n")
    with pytest.raises(InputError) as caught:
        list(Beir(folder))
    message = str(caught.value)
    assert "test.tsv:4 names the query '7': none" in message
    assert "test.tsv:5 names the document 'd7': none" in message
    assert "test.tsv:6 field 'score' is 'x', not an integer" in message
    read = Beir(folder, on_error="skip")
    assert len(list(read)) == 2 and read.skipped.count == 3


def test_judgements_that_contradict_each_other(folder, write):
    write("set/qrels/test.tsv", JUDGED + "2\td1\t1\n1\td2\t0\n")
    message = "test.tsv:5 has the score 0, and line 3 gives the same two 2"
    with pytest.raises(InputError, match=message):
        list(Beir(folder))
    assert [e["score"] for e in Beir(folder, on_error="skip")] == [1, 2, 1]


def test_scores_that_can_t_be_measured(folder, write):
    write("set/qrels/test.tsv", JUDGED + "1\td1\t1000001\n2\td2\t-1\n")
    with pytest.raises(InputError, match="test.tsv:4 has the score 1,000,001, and the highest"):
        list(Beir(folder))
    assert [e["score"] for e in Beir(folder, on_error="skip")] == [1, 2, -1]


def test_queries_that_come_twice_or_are_blank(folder, write):
    write("set/queries.jsonl", QUERIES + '{"_id": "2", "text": "why?"}\n')
    with pytest.raises(InputError, match="queries.jsonl:3 has the id '2' of an earlier row"):
        list(Beir(folder))
    first, _ = Beir(folder, on_error="skip")
    assert first["query"] == "what?"
    write("set/queries.jsonl", QUERIES.replace("what?", " "))
    with pytest.raises(InputError, match="queries.jsonl:2 field 'text' is blank"):
        list(Beir(folder))


def test_bad_rows_of_the_corpus_are_named_there(folder, write):
    write("set/corpus.jsonl", CORPUS + "{}\n")
    with pytest.raises(InputError, match="corpus.jsonl:4 has no field '_id'"):
        list(Beir(folder))


def test_parts_that_are_missing(folder, tmp_path):
    with pytest.raises(InputError, match=r"has no qrels/dev.tsv \(there are: test\)"):
        Beir(folder, "dev")
    with pytest.raises(InputError, match=r"has no corpus.jsonl\. Give a folder in BEIR's"):
        Beir(tmp_path)
    with pytest.raises(InputError, match=r"has no qrels/s+.tsv \(there are: test\)"):
        Beir(folder, "s" * 300)
