import gzip

import pytest

from tfllm.data.readers import Field, Parquet
from tfllm.errors import InputError

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def table(tmp_path):
    def write_table(columns, name="a.parquet", **options):
        path = tmp_path / name
        parquet.write_table(arrow.table(columns), path, **options)
        return path

    return write_table


def test_columns_of_every_kind_over_row_groups(table):
    count = 3_000
    path = table(
        {
            "text": [f"ü {i}" for i in range(count)],
            "n": list(range(count)),
            "score": [i / 2 for i in range(count)],
            "tokens": [["a", str(i)] for i in range(count)],
            "other": [None] * count,
        },
        row_group_size=700,
    )
    fields = {
        "text": Field("text"),
        "label": Field("n", "integer"),
        "score": Field("score", "number"),
        "tokens": Field("tokens", "texts"),
        "missing": Field("missing", default=""),
    }
    examples = list(Parquet(path, fields))
    assert examples == [
        {"text": f"ü {i}", "label": i, "score": i / 2, "tokens": ["a", str(i)], "missing": ""}
        for i in range(count)
    ]


def test_bad_rows_are_named_by_number(table):
    path = table({"text": ["a", None, "c"], "n": [1, 2, None]})
    with pytest.raises(InputError, match=r"2 rows .*:2 field 'text' is null; .*:3 field 'n' is"):
        list(Parquet(path, {"text": Field("text"), "n": Field("n", "integer")}))
    assert [e["text"] for e in Parquet(path, ["text"], on_error="skip")] == ["a", "c"]


def test_bytes_that_are_not_utf8(tmp_path):
    raw = arrow.array([b"good", b"\xff", b"fine"], arrow.binary())
    text = arrow.Array.from_buffers(arrow.string(), 3, raw.buffers())
    parquet.write_table(arrow.table({"text": text}), tmp_path / "a.parquet")
    read = Parquet(tmp_path / "a.parquet", ["text"])
    with pytest.raises(InputError, match="a.parquet:2 is not UTF-8: byte 0xff"):
        list(read)
    read = Parquet(tmp_path / "a.parquet", ["text"], on_error="skip")
    assert [e["text"] for e in read] == ["good", "fine"]


def test_columns_that_are_missing(table):
    path = table({"a": ["x"]})
    with pytest.raises(InputError, match="a.parquet has no column 'text'. Name one of these: 'a'"):
        list(Parquet(path, ["text"]))


def test_files_that_are_no_parquet(table, write):
    whole = table({"text": ["a"]}).read_bytes()
    for content in (b"", b"text\nx\n", whole[:-20], gzip.compress(whole)):
        path = write("bad.parquet", content)
        with pytest.raises(InputError, match="bad.parquet can't be read as Parquet: ") as caught:
            list(Parquet(path, ["text"]))
        assert "\n" not in str(caught.value)
