import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.readers import BadRow, Csv, Field, Tsv
from tfllm.data.readers.tables import quoted_cells
from tfllm.errors import InputError


def test_quoted_cells_hold_delimiters_quotes_and_line_ends(write):
    path = write("a.csv", 'label,text\r\n1,"a, ""b""\r\nc"\r\n\r\n0,d\r\n')
    fields = {"text": "text", "label": Field("label", "integer")}
    assert list(Csv(path, fields)) == [
        {"text": 'a, "b"\nc', "label": 1},
        {"text": "d", "label": 0},
    ]


def test_lines_are_counted_across_quoted_line_ends(write):
    path = write("a.csv", 'text,n\n"a\n\nb",1\n\nc\n"d\n",x\n')
    with pytest.raises(InputError) as caught:
        list(Csv(path, {"text": "text", "n": Field("n", "integer")}))
    message = str(caught.value)
    assert f"{path}:6 has 1 columns, not 2; {path}:7 field 'n' is 'x', not an integer" in message


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('"a"b,1', "is badly quoted"),
        ('"a,1', "is badly quoted"),
        ("a", "has 1 columns, not 2"),
        ("a,1,2", "has 3 columns, not 2"),
        ("a\rb,1", "is badly quoted"),
        (f'"{"x" * 20_000_000},1', "is badly quoted: field larger"),
    ],
    ids=["after quote", "open quote", "too few", "too many", "carriage return", "endless"],
)
def test_rows_that_cannot_be_read(write, row, reason):
    path = write("a.csv", f"text,n\nb,2\n{row}")
    with pytest.raises(InputError, match=rf"one row can't be read: \S*a.csv:3 {reason}"):
        list(Csv(path, ["text"]))


def test_an_open_quote_swallows_nothing_silently(write):
    path = write("a.csv", 'text,n\n"a,1\nb,2\n')
    with pytest.raises(InputError, match=r"a.csv:2 is badly quoted: unexpected end"):
        list(Csv(path, ["text"]))


def test_an_open_quote_costs_its_own_line_only(write):
    rows = [f"row {i},{i}" for i in range(50)]
    rows[3] = '"row 3,3'
    rows[20] = '"row, ""20""",20'
    read = Csv(write("a.csv", "\n".join(["text,n", *rows])), ["text"], on_error="skip")
    wanted = ['row, "20"' if i == 20 else f"row {i}" for i in range(50) if i != 3]
    assert [example["text"] for example in read] == wanted
    assert [row.line for row in read.skipped.samples] == [5]


def test_parts_of_a_badly_quoted_row_are_no_rows(write):
    path = write("a.csv", 'text,n\n"one\nsays "two"\nend",1\nb,2\n')
    read = Csv(path, ["text"], on_error="skip")
    assert list(read) == [{"text": "b"}]
    assert [row.line for row in read.skipped.samples] == [2, 3, 4]


@pytest.mark.parametrize("delimiter", [";;", "", '"', "\n"])
def test_delimiters_that_cannot_be(write, delimiter):
    with pytest.raises(InputError, match="delimiter must be one character"):
        Csv(write("a.csv", "text\nx\n"), ["text"], delimiter=delimiter)


def test_a_long_cell_is_read_and_the_process_limit_left_alone(write):
    path = write("a.csv", "text,n\n" + "x" * 200_000 + ",1\n")
    limit = csv.field_size_limit()
    (example,) = Csv(path, ["text"])
    assert len(example["text"]) == 200_000 > limit == csv.field_size_limit()


def test_columns_can_be_named_where_the_file_names_none(write):
    path = write("a.tsv", "x\t1\ny\t2\n")
    read = Tsv(path, {"text": "t", "n": Field("n", "integer")}, columns=("t", "n"))
    assert list(read) == [{"text": "x", "n": 1}, {"text": "y", "n": 2}]


def test_raw_quotes(write):
    text = '\ufeffid\ttext\n1\t"The pie , he said .\n2\t"a" b\n3\t"c"\n'
    path = write("a.tsv", text)
    read = Tsv(path, ["text"], quoting=False)
    assert [e["text"] for e in read] == ['"The pie , he said .', '"a" b', '"c"']
    with pytest.raises(InputError, match="badly quoted"):
        list(Tsv(path, ["text"]))


def test_each_file_has_its_header_and_its_own_order(write):
    one, two = write("1.csv", "a,b\n1,2\n"), write("2.csv", "b,a\n3,4\n")
    assert [e["a"] for e in Csv([one, two], ["a"])] == ["1", "4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("label,review\n1,x\n", r"a.csv has no column 'text'; its columns: 'label', 'review'"),
        ("text,text\n1,x\n", r"a.csv has two columns 'text'"),
        (b"te\xffxt,n\na,1\n", r"a.csv:1 not UTF-8.*first row names the columns"),
        ("\n\n", r"a.csv:1 has no row with the columns' names"),
        ("text,n\n", r"there is no example"),
    ],
)
def test_headers_that_do_not_fit(write, content, message):
    with pytest.raises(InputError, match=message):
        list(Csv(write("a.csv", content), ["text"], on_error="skip"))


def test_a_column_with_a_default_may_be_missing(write):
    path = write("a.csv", "text\nx\n")
    fields = {"text": Field("text"), "n": Field("n", "number", default=0.5)}
    assert list(Csv(path, fields)) == [{"text": "x", "n": 0.5}]


cells = st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=5)


@given(st.lists(st.lists(cells, min_size=2, max_size=3), min_size=1, max_size=6))
def test_what_csv_writes_comes_back_with_its_lines(rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    lines = []
    for row in rows:
        lines.append(text.getvalue().count("\n") + 1)
        writer.writerow(row)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(text.getvalue().encode())
        assert list(quoted_cells(path, ",")) == list(zip(lines, rows, strict=True))


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 3))
def test_open_quotes_swallow_no_other_row(opened, quoted):
    rows = [f'"{i},{i}' if bad else f"{i},{i}" for i, bad in enumerate(opened)]
    rows += ['"x, ""y""",9'] * quoted
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_text("\n".join(["t,n", *rows]))
        found = list(Csv(path, ["t", "n"], on_error="skip").rows())
    good = [row for row in found if not isinstance(row, BadRow)]
    wanted = [{"t": str(i), "n": str(i)} for i, bad in enumerate(opened) if not bad]
    assert good == wanted + [{"t": 'x, "y"', "n": "9"}] * quoted
    assert [row.line - 2 for row in found if isinstance(row, BadRow)] == [
        i for i, bad in enumerate(opened) if bad
    ]
