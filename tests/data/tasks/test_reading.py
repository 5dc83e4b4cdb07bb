"""Labelled examples out of files of every format, in one call."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.array_building import build_array_store
from tfllm.data.encoders import TextEncoder
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.readers import Field, JsonLines
from tfllm.data.tasks import (
    read_examples,
    read_questions,
    read_tagged_words,
    text_fields,
)
from tfllm.data.tasks.split import split_examples
from tfllm.errors import InputError

FIELDS = text_fields(text="review", label="stars")
ROWS = [("good , film", "1"), ('bad "film"', "0"), ("fine", "1")]


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


def parquet(path, rows):
    import pyarrow
    from pyarrow import parquet as files

    files.write_table(
        pyarrow.table({"review": [r[0] for r in rows], "stars": [r[1] for r in rows]}), path
    )


CONTENTS = {
    "a.csv": 'stars,review\n1,"good , film"\n0,"bad ""film"""\n1,fine\n',
    "a.tsv": 'stars\treview\n1\tgood , film\n0\tbad "film"\n1\tfine\n',
    "a.txt": 'stars\treview\n1\tgood , film\n0\tbad "film"\n1\tfine\n',
    "a.jsonl": "".join(json.dumps({"review": t, "stars": int(s)}) + "\n" for t, s in ROWS),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", CONTENTS)
def test_the_suffix_says_the_format(write, name, packed):
    content = CONTENTS[name].encode()
    path = write(name + ".gz", gzip.compress(content)) if packed else write(name, content)
    parts = read_examples([path], [path], [path], fields=FIELDS)
    for _, part in parts.named():
        assert [(e["text"], str(e["label"])) for e in part] == ROWS
    assert parts.name == "a" and parts.test.place(1).rsplit(":", 1) == [
        path,
        "2" if "json" in name else "3",
    ]


def test_parquet(tmp_path):
    path = str(tmp_path / "a.parquet")
    parquet(path, ROWS)
    parts = read_examples([path], [path], fields=FIELDS)
    assert [(e["text"], e["label"]) for e in parts.train] == ROWS and parts.test is None
    assert [flag for flag, _ in parts.named()] == ["--train", "--validation"]


def test_files_without_a_header_and_quotes_as_shells(write):
    path = write("a.tsv", '1\t"a\tb"\n0\tc\n')
    parts = read_examples([path], [path], fields=FIELDS, columns=["stars", "review"], quoting=True)
    assert [e["text"] for e in parts.train] == ["a\tb", "c"]


def test_kinds_of_labels(write):
    path = write("a.jsonl", '{"a": "x", "b": "y", "n": "2.5", "l": ["p", "q"]}\n')
    cases = {
        "regression": ("n", 2.5),
        "multi_label": ("l", ["p", "q"]),
        "single_label": ("n", "2.5"),
    }
    for kind, (key, wanted) in cases.items():
        fields = text_fields(text="a", text_pair="b", label=key, kind=kind)
        (example,) = read_examples([path], [path], fields=fields).train
        assert example == {"text": "x", "text_pair": "y", "label": wanted}
    (example,) = read_examples([path], [path], fields=text_fields(text="a", label=None)).train
    assert example == {"text": "x"}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("01")), min_size=2, max_size=30
    ),
    st.floats(0.01, 0.9),
)
def test_a_text_is_on_one_side_only(tmp_path_factory, rows, fraction):
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": s}) + "\n" for t, s in rows))
    reader = JsonLines(path, {"text": "text", "label": Field("label", "label")})
    if len({text for text, _ in rows}) == 1:
        with pytest.raises(InputError, match="all .* examples have the same text"):
            split_examples(reader, ("text",), fraction)
        return
    learnt, held_out = split_examples(reader, ("text",), fraction)
    sides = [[(e["text"], e["label"]) for e in side] for side in (learnt, held_out)]
    assert sides[0] and sides[1]
    assert not {t for t, _ in sides[0]} & {t for t, _ in sides[1]}
    assert sorted(sides[0] + sides[1]) == sorted(rows)
    lines = [
        int(side.place(i).split(":")[-1])
        for side in (learnt, held_out)
        for i in range(len(list(side)))
    ]
    assert [rows[line - 1] for line in lines] == sides[0] + sides[1]
    assert learnt.digest() != held_out.digest()


def test_a_text_stays_on_its_side_when_others_come(write):
    rows = [f'{{"review": "text {i}", "stars": {i % 2}}}\n' for i in range(300)]
    some, all_rows = write("a.jsonl", "".join(rows[:150])), write("b.jsonl", "".join(rows[::-1]))
    before = read_examples([some], fields=FIELDS, validation_fraction=0.2)
    after = read_examples([all_rows], fields=FIELDS, validation_fraction=0.2)
    held = [{e["text"] for e in parts.validation} for parts in (before, after)]
    assert held[0] < held[1] and 0.1 < len(held[1]) / 300 < 0.3


def test_bad_rows_of_a_split_file_count_once(write):
    rows = [f'{{"review": "text {i}", "stars": 1}}\n' for i in range(40)]
    path = write("a.jsonl", "".join([*rows[:20], '{"review": "  ", "stars": 1}\n', *rows[20:]]))
    with pytest.raises(
        InputError, match="one row can't be read: .*a.jsonl:21 field 'review' is blank"
    ):
        read_examples([path], fields=FIELDS)
    parts = read_examples([path], fields=FIELDS, validation_fraction=0.2, on_error="skip")
    sizes = [len(list(part)) for part in (parts.train, parts.validation)]
    assert sum(sizes) == 40 and min(sizes) > 0
    assert (parts.train.skipped.count, parts.validation.skipped.count) == (1, 0)


def test_a_part_becomes_a_store_once(write, tokenizer, tmp_path):
    path = write(
        "a.jsonl", "".join(f'{{"review": "text {i}", "stars": {i % 2}}}\n' for i in range(50))
    )
    encoder = TextEncoder(FastTokenizer.of(tokenizer), 20, label="label", labels=("0", "1"))
    stores = []
    for _ in range(2):
        parts = read_examples([path], fields=FIELDS, validation_fraction=0.3)
        stores += [
            build_array_store(part, encoder, cache_dir=tmp_path / "c") for _, part in parts.named()
        ]
    assert stores[0].folder == stores[2].folder != stores[1].folder == stores[3].folder
    assert len(stores[0]) + len(stores[1]) == 50 and len(list((tmp_path / "c").iterdir())) == 2


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("review\nx\n", {}, r"--train .*a.csv has no column 'stars'; its columns: 'review'"),
        ("review,stars\nx,\n", {}, r"--train .*a.csv:2 field 'stars' is blank"),
        ("review,stars\n", {}, r"--train .*there is no example"),
        ("x,1\n", {"columns": ["review"]}, r"has no column 'stars'"),
        ("review,stars\nx,1\n", {"quoting": False}, "quotes of CSV are always shells"),
    ],
)
def test_files_that_do_not_fit(write, content, options, message):
    with pytest.raises(InputError, match=message):
        read_examples([write("a.csv", content)], fields=FIELDS, **options)


def test_paths_that_do_not_fit(write):
    good, odd = write("a.csv", CONTENTS["a.csv"]), write("a.doc", "x")
    lines = write("a.jsonl", CONTENTS["a.jsonl"])
    unlabelled = write("t.csv", "review\nx\n")
    for given_parts, options, message in (
        (([odd],), {}, "--train .*a.doc: the suffix '.doc' does not say the format"),
        (([good, lines],), {}, "files of several formats: .csv, .jsonl"),
        ((["no.csv"],), {}, "--train 'no.csv' does not exist"),
        (([], [good]), {}, "--validation is given without --train"),
        (([], [], [good]), {}, "--test is given without --train"),
        (([lines],), {"columns": ["a"]}, "columns are named for .csv"),
        (([good], ["no.csv"]), {}, "--validation 'no.csv' does not exist"),
        (([good], [], [unlabelled]), {}, r"--test .*no column 'stars'.*it needs labels"),
    ):
        with pytest.raises(InputError, match=message):
            read_examples(*given_parts, fields=FIELDS, **options)


def test_tagged_words_in_columns_and_in_lists(write):
    columns = write("a.conll", "Kim X I-PER\nran X O\n\nOslo X B-LOC\n")
    rows = [
        {"tokens": ["Kim", "ran"], "tags": ["I-PER", "O"]},
        {"tokens": ["Oslo"], "tags": ["B-LOC"]},
    ]
    lists = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    wanted = [
        {"tokens": ["Kim", "ran"], "tags": ["B-PER", "O"]},
        {"tokens": ["Oslo"], "tags": ["B-LOC"]},
    ]
    for path in (columns, lists):
        parts = read_tagged_words([path], [path], scheme="iob1")
        assert list(parts.train) == list(parts.validation) == wanted
        plain = read_tagged_words([path], [path], scheme=None)
        assert next(iter(plain.train))["tags"] == ["I-PER", "O"]
        split = read_tagged_words([path], scheme="iob1")
        both = [*split.train, *split.validation]
        assert sorted(both, key=str) == sorted(wanted, key=str)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.conll", "Kim PER\n", "a.conll:1 has the tag 'PER', which iob2 has not"),
        ("a.jsonl", '{"tokens": ["a"], "tags": ["PER"]}\n', "a.jsonl:1 has the tag 'PER'"),
        ("a.jsonl", '{"tokens": ["a"], "tags": []}\n', "a.jsonl:1 has 1 words and 0 tags"),
        ("a.jsonl", '{"tokens": [], "tags": []}\n', "a.jsonl:1 has no words"),
        ("a.jsonl", '{"tokens": ["a"]}\n', "a.jsonl:1 has no field 'tags'"),
    ],
)
def test_tagged_words_that_do_not_fit(write, name, content, message):
    with pytest.raises(InputError, match=f"--train .*{message}"):
        read_tagged_words([write(name, content)])


ANSWERED = {"id": 7, "question": "Who?", "context": "Kim ran."}


def test_questions_of_squad_and_in_lines(write):
    answers = {"text": ["Kim"], "answer_start": [0]}
    lines = write("a.jsonl", json.dumps(ANSWERED | {"answers": answers}) + "\n")
    entry = {"id": "7", "question": "Who?", "answers": [{"text": "Kim", "answer_start": 0}]}
    tree = {"data": [{"title": "t", "paragraphs": [{"context": "Kim ran.", "qas": [entry]}]}]}
    squad = write("a.json", json.dumps(tree))
    for path in (lines, squad):
        (example,) = read_questions([path], [path]).train
        assert example["answers"] == ["Kim"] and example["answer_starts"] == [0]
        assert (example["id"], example["question"]) == ("7", "Who?")


def test_contexts_are_on_one_side_only(write):
    rows = [
        {
            "question": f"q{i}",
            "context": f"Kim ran {i // 4}.",
            "answers": {"text": [], "answer_start": []},
        }
        for i in range(80)
    ]
    path = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    parts = read_questions([path], validation_fraction=0.2)
    sides = [{e["context"] for e in part} for part in (parts.train, parts.validation)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 20


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"text": ["Bob"], "answer_start": [0]}, "a.jsonl:1 has the answer 'Bob' at 0, where"),
        ({"text": ["Kim"], "answer_start": []}, "a.jsonl:1 has the answers .* not two lists"),
        ({"text": ["Kim"]}, "not two lists of one length"),
        (["Kim"], "not a text and an answer_start"),
        (None, "field 'answers' is null"),
    ],
)
def test_questions_that_do_not_fit(write, answers, message):
    path = write("a.jsonl", json.dumps(ANSWERED | {"answers": answers}) + "\n")
    with pytest.raises(InputError, match=message):
        read_questions([path])
