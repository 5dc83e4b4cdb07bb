"""A corpus and judged queries: BEIR's layout, pairs, what tfllm brings, and what is wrong."""

import gzip
import json

import pytest

from tfllm.data.tasks import read_retrieval
from tfllm.errors import InputError

CORPUS = [
    {"_id": "a", "title": "Cats", "text": "They purr."},
    {"_id": "b", "text": "It rains."},
    {"_id": "c", "text": "Dogs bark."},
]
QUERIES = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(1, 7)]
TRAIN = [("q1", "a", 1), ("q1", "b", 2), ("q2", "c", 1), ("q3", "a", 0), ("q4", "b", 1)]
TEST = [("q5", "a", 1), ("q6", "c", 1)]


def written(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    written(tmp_path / "set" / "corpus.jsonl", CORPUS)
    written(tmp_path / "set" / "queries.jsonl", QUERIES)
    for name, rows in (("train", TRAIN), ("test", TEST)):
        judge(tmp_path / "set", name, rows)
    return tmp_path / "set"


def judge(folder, name, rows):
    (folder / "qrels").mkdir(exist_ok=True)
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    (folder / "qrels" / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def test_a_folder_in_beirs_layout(folder):
    parts = read_retrieval([str(folder)], validation_judged="test", test_judged="test")
    assert parts.name == "set" and parts.place_of == {"a": 0, "b": 1, "c": 2}
    assert [row["text"] for row in parts.documents][0] == "Cats They purr."
    assert parts.train.queries == {f"q{i}": f"query {i}" for i in (1, 2, 3, 4)}
    assert parts.train.scores["q1"] == {"a": 1, "b": 2}
    assert parts.validation == parts.test
    assert parts.test.examples() == [
        {"id": "q5", "text": "query 5"},
        {"id": "q6", "text": "query 6"},
    ]
    pairs = parts.train.pairs(parts.place_of)
    assert pairs.queries.tolist() == [0, 0, 1, 3] and pairs.documents.tolist() == [0, 1, 2, 1]
    assert pairs.relevant.tolist() == [[0, 1], [2, -1], [-1, -1], [1, -1]]
    assert pairs.negatives.shape == (4, 0)
    assert [places.tolist() for places in pairs.known()] == [[0, 1], [2], [], [1]]


def test_queries_are_split_by_a_hash_of_their_texts(folder):
    parts = read_retrieval([str(folder)], validation_fraction=0.5)
    sides = set(parts.train.queries), set(parts.validation.queries)
    assert sides[0] | sides[1] == {"q1", "q2", "q3", "q4"} and not sides[0] & sides[1]
    assert all(sides)
    # Others leave them where they are, and few queries still make two sides.
    judge(folder, "train", [*TRAIN, ("q5", "a", 1)])
    more = read_retrieval([str(folder)], validation_fraction=0.5)
    assert sides[1] <= set(more.validation.queries) | {"q5"}
    small = read_retrieval([str(folder)], validation_fraction=1e-9)
    assert len(small.validation.queries) >= 1


def test_pairs_make_their_corpus(tmp_path):
    rows = [
        {"query": "who barks?", "document": "Dogs bark.", "negatives": ["Cats purr.", " Rain. "]},
        {"query": "who purrs?", "document": " Cats purr."},
        {"query": "who barks?", "document": "Foxes bark.", "negatives": ["Dogs bark."]},
    ]
    train = written(tmp_path / "train.jsonl", rows)
    test = written(tmp_path / "dev.jsonl", [{"query": "wet?", "document": "Rain."}])
    parts = read_retrieval([train], [test], [test])
    texts = [row["text"] for row in parts.documents]
    assert texts == ["Dogs bark.", "Cats purr.", "Rain.", "Foxes bark."]
    # A document with its query's id would not count.
    assert not {*parts.place_of} & {*parts.train.queries, *parts.validation.queries}
    assert parts.train.queries == {"q1": "who barks?", "q2": "who purrs?"}
    assert parts.train.scores == {"q1": {"1": 1, "4": 1}, "q2": {"2": 1}}
    assert parts.validation.scores == {"q1": {"3": 1}} and parts.test == parts.validation
    pairs = parts.train.pairs(parts.place_of)
    # A text that answers the query is no negative, whoever named it as one.
    assert pairs.negatives.tolist() == [[1, 2], [-1, -1]]
    assert len(read_retrieval([train]).validation.queries) == 1
    table = tmp_path / "pairs.tsv"
    table.write_text("q\td\nwho?\tnobody\nwhat?\tnothing\n")
    parts = read_retrieval([str(table)], query="q", document="d")
    assert [row["text"] for row in parts.documents] == ["nobody", "nothing"]


def test_without_files_there_are_portraits():
    parts = read_retrieval()
    assert parts.name == "search" and len(parts.place_of) == 240 and parts.test is None
    assert str(parts).startswith("240 documents, ")
    assert not set(parts.train.queries.values()) & set(parts.validation.queries.values())


def test_judgements_of_what_is_not_there(folder):
    judge(folder, "train", [*TRAIN, ("q9", "a", 1), ("q1", "z", 1), ("q1", "a", "much")])
    with pytest.raises(InputError) as caught:
        read_retrieval([str(folder)])
    message = str(caught.value)
    assert "train.tsv:7 names the query 'q9': none" in message
    assert "train.tsv:8 names the document 'z': none" in message
    assert "train.tsv:9 field 'score' is 'much', not an integer" in message
    parts = read_retrieval([str(folder)], on_error="skip", validation_judged="test")
    assert len(parts.train.pairs(parts.place_of)) == 4


def test_documents_that_come_twice_or_are_empty(folder):
    written(folder / "corpus.jsonl", [*CORPUS, {"_id": "a", "text": "again"}])
    with pytest.raises(InputError, match=r"corpus.jsonl:4 has the id 'a' of .*corpus.jsonl:1"):
        read_retrieval([str(folder)])
    written(folder / "corpus.jsonl", [*CORPUS[:2], {"_id": "c", "title": "Dogs", "text": " "}])
    with pytest.raises(InputError, match=r"corpus.jsonl:3 .*'text' is blank"):
        read_retrieval([str(folder)])
    parts = read_retrieval([str(folder)], on_error="skip", test_judged="test")
    assert [*parts.place_of] == ["a", "b"] and [*parts.test.queries] == ["q5"]


def test_pairs_that_can_t_be_read(tmp_path):
    good = {"query": "a", "document": "b"}
    for row, message in (
        ({"query": " ", "document": "b"}, r"x.jsonl:2 field 'query' is blank"),
        ({"query": "a", "document": ""}, r"x.jsonl:2 field 'document' is blank"),
        ({"query": "a"}, r"x.jsonl:2 has no field 'document', which --document names"),
        ({**good, "negatives": ["c", " "]}, r"x.jsonl:2 has a blank text among its negatives"),
        ({**good, "negatives": "c"}, r"x.jsonl:2 field 'negatives' is 'c', not a list of texts"),
    ):
        path = written(tmp_path / "x.jsonl", [good, row, {"query": "c", "document": "d"}])
        with pytest.raises(InputError, match=message):
            read_retrieval([path])
        assert len(read_retrieval([path], on_error="skip").place_of) == 2


def test_a_corpus_of_one_document(folder, tmp_path):
    pairs = [{"query": name, "document": "b"} for name in "xyz"]
    with pytest.raises(InputError, match="--train one: there is only one document"):
        read_retrieval([written(tmp_path / "one.jsonl", pairs)])
    written(folder / "corpus.jsonl", CORPUS[:1])
    with pytest.raises(InputError, match="--train set: there is only one document"):
        read_retrieval([str(folder)], validation_judged="test", on_error="skip")


def test_a_packed_folder(folder):
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        packed = folder / f"{name}.gz"
        packed.write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert read_retrieval([str(folder)]).place_of == {"a": 0, "b": 1, "c": 2}


def test_flags_that_contradict_each_other(folder, tmp_path):
    path = written(tmp_path / "one.jsonl", [{"query": "a", "document": "b"}])
    for arguments, message in (
        ({"train": [str(folder)], "validation": [path]}, "Leave --validation and --test out"),
        ({"train": [path], "test_judged": "test"}, "are for a folder in BEIR's layout"),
        ({"train": [path]}, "there is only one query, which can't be split"),
        ({"train": [str(folder)], "judged": "dev"}, r"--judged dev: .*there are: test, train"),
        ({"train": [str(tmp_path / "no.jsonl")]}, "--train"),
        ({"train": ["x" * 300]}, "--train 'x+' does not exist"),
        ({"train": [path], "judged": "dev"}, "are for a folder in BEIR's layout. Give it as"),
        ({"judged": "dev"}, "are for a folder in BEIR's layout"),
        ({"query": "claim"}, "--query names a field of pairs.* Received: claim"),
        ({"train": [str(folder)], "negatives": "n"}, "--negatives names a field of pairs"),
    ):
        with pytest.raises(InputError, match=message):
            read_retrieval(**arguments)
    judge(folder, "none", [("q1", "a", 0)])
    with pytest.raises(InputError, match="--judged none: no query has a document that answers it"):
        read_retrieval([str(folder)], judged="none")
