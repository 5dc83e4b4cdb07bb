"""What holds for every reader of lines, shown with JSON lines, CSV, TSV, CoNLL and plain text."""

import gzip
import os
import tracemalloc

import pytest

from tfllm.data.readers import BadRow, Conll, Csv, JsonLines, LinePairs, PlainText, Squad, Tsv
from tfllm.errors import InputError

# Format → a reader of it, and three examples written in it.
FORMATS = {
    "plain": (PlainText, ["one", "two", "three"]),
    "json": (
        lambda path, **options: JsonLines(path, ["text"], **options),
        ['{"text": "one"}', '{"text": "two"}', '{"text": "three"}'],
    ),
    "csv": (
        lambda path, **options: Csv(path, ["text"], columns=["text", "n"], **options),
        ["one,1", "two,2", "three,3"],
    ),
    "tsv": (
        lambda path, **options: Tsv(path, ["text"], columns=["text", "n"], **options),
        ["one\t1", "two\t2", "three\t3"],
    ),
    "raw_tsv": (
        lambda path, **options: Tsv(
            path, ["text"], columns=["text", "n"], quoting=False, **options
        ),
        ["one\t1", "two\t2", "three\t3"],
    ),
    "conll": (
        lambda path, **options: Conll(path, tag_column=None, **options),
        ["one\n", "two\n", "three\n"],
    ),
}
WORDS = ["one", "two", "three"]
# Readers that judge each line by itself.
BY_ROW = [name for name in FORMATS if name != "plain"]


def words(examples) -> list[str]:
    return [example["text"] if "text" in example else example["tokens"][0] for example in examples]


@pytest.fixture(params=FORMATS)
def reading(request):
    return FORMATS[request.param]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_line_ends_last_line_and_byte_order_mark(reading, write, end, last, start):
    reader, rows = reading
    text = "\n".join(rows).replace("\n", end) + end * last
    path = write("a.data", start + text.encode())
    assert words(reader(path)) == WORDS


def test_two_passes_are_equal_and_independent(reading, write):
    reader, rows = reading
    read = reader(write("a.data", "\n".join(rows)))
    first, second = iter(read), iter(read)
    next(first)
    assert words(second) == WORDS
    assert words(first) == WORDS[1:]


def test_several_files_and_globs_in_order(reading, write, tmp_path):
    reader, rows = reading
    write("b.data", "\n".join(rows[1:]))
    write("a.data", rows[0])
    assert words(reader(f"{tmp_path}/*.data")) == WORDS
    assert words(reader([tmp_path / "b.data", tmp_path / "a.data"])) == ["two", "three", "one"]


def test_gzip_is_unpacked(reading, write):
    reader, rows = reading
    packed = gzip.compress("\n".join(rows).encode())
    assert words(reader(write("a.data.gz", packed))) == WORDS
    assert words(reader(write("named_otherwise.data", packed))) == WORDS


@pytest.mark.parametrize("keep", [5, 15, -9, -1])
def test_cut_off_gzip_is_named(reading, write, keep):
    reader, rows = reading
    path = write("a.data.gz", gzip.compress("\n".join(rows * 9).encode())[:keep])
    with pytest.raises(InputError, match=r"a.data.gz is a damaged gzip file.*again"):
        list(reader(path))


def test_a_flipped_bit_in_gzip_is_named(reading, write):
    reader, rows = reading
    packed = bytearray(gzip.compress("\n".join(rows * 9).encode()))
    packed[-6] ^= 1  # the checksum
    with pytest.raises(InputError, match=r"damaged gzip file: CRC check failed"):
        list(reader(write("a.data.gz", bytes(packed))))


def test_gz_that_is_not_gzip(reading, write):
    reader, rows = reading
    with pytest.raises(InputError, match="a.gz is no gzip file.*drop .gz"):
        list(reader(write("a.gz", rows[0])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.data is empty"),
        (gzip.compress(b"", mtime=0), "a.data is empty"),
        (b"\xef\xbb\xbf", "a.data"),
        (b"\n\n\r\n", "a.data"),
    ],
)
def test_files_without_an_example(reading, write, content, message):
    reader, _ = reading
    with pytest.raises(InputError, match=message):
        list(reader(write("a.data", content)))


def test_paths_are_checked_before_reading(reading, tmp_path):
    reader, _ = reading
    with pytest.raises(InputError, match="no.data' does not exist"):
        reader(tmp_path / "no.data")
    with pytest.raises(InputError, match="matches no file"):
        reader(f"{tmp_path}/*.data")
    with pytest.raises(InputError, match="is a folder"):
        reader(tmp_path)


def test_a_file_that_cannot_be_read(reading, write, tmp_path):
    reader, rows = reading
    path = write("a.data", rows[0])
    read = reader(path)
    path.unlink()
    with pytest.raises(InputError, match="a.data can't be read: No such file"):
        list(read)
    with pytest.raises(InputError, match="a.data can't be read: No such file"):
        read.digest()
    path.symlink_to(path)
    with pytest.raises(InputError, match="a.data can't be read: Too many levels"):
        list(read)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(reading, write):
    reader, rows = reading
    path = write("a.data", rows[0])
    path.chmod(0)
    with pytest.raises(InputError, match="a.data can't be read: Permission denied"):
        list(reader(path))


@pytest.mark.parametrize("form", BY_ROW)
def test_bytes_that_are_not_utf8_are_named_by_line_and_offset(form, write):
    reader, rows = FORMATS[form]
    before = "\n".join([*rows, rows[0].replace("one", "ü")[:4]]).encode()
    path = write("a.data", before + b"\xff" + b"\n\n" + "\n".join(rows).encode())
    line = before.count(b"\n") + 1
    with pytest.raises(InputError) as caught:
        list(reader(path))
    place = f"a.data:{line} not UTF-8: byte 0xff at offset {len(before)}"
    assert place in str(caught.value)
    assert words(reader(path, on_error="skip")) == WORDS + WORDS


def test_bytes_that_are_not_utf8_in_plain_text(write):
    with pytest.raises(InputError, match="a.data is not UTF-8: byte 0xff at offset 4"):
        list(PlainText(write("a.data", b"one\n\xff")))


def test_offsets_count_in_what_is_packed(write):
    path = write("a.gz", gzip.compress(b"x" * 5_000 + b"\xff"))
    with pytest.raises(InputError, match="not UTF-8: byte 0xff at offset 5000"):
        list(PlainText(path))
    with pytest.raises(InputError, match="a.gz:1 not UTF-8: byte 0xff at offset 5,000"):
        list(JsonLines(path, ["text"]))


@pytest.mark.parametrize("form", BY_ROW)
def test_a_nul_character_makes_a_bad_row(form, write):
    reader, rows = FORMATS[form]
    bad = rows[0].replace("one", "o\0ne")
    path = write("a.data", "\n".join([rows[0], bad, *rows[1:]]))
    line = rows[0].count("\n") + 2
    with pytest.raises(InputError, match=f"a.data:{line} holds a NUL character"):
        list(reader(path))
    assert words(reader(path, on_error="skip")) == WORDS


@pytest.mark.parametrize("form", BY_ROW)
def test_utf16_gives_bad_rows_and_no_example(form, write):
    reader, rows = FORMATS[form]
    path = write("a.data", "\n".join(rows).encode("utf-16"))
    with pytest.raises(InputError, match="a.data:1 not UTF-8: byte 0xff at offset 0"):
        list(reader(path))
    with pytest.raises(InputError, match="none of . rows can be read, the first: .*not UTF-8"):
        list(reader(path, on_error="skip"))


def test_the_first_ten_bad_rows_are_listed(write):
    good, bad = '{"text": "x"}\n', "{}\n"
    path = write("a.jsonl", good + bad * 10)
    read = JsonLines(path, ["text"])
    passing = iter(read)
    assert next(passing) == {"text": "x"}
    with pytest.raises(InputError) as caught:
        next(passing)
    message = str(caught.value)
    assert message.startswith("10 rows can't be read: ") and "\n" not in message
    assert message.count("has no field 'text'") == 1 and "a.jsonl:2 has no field" in message
    assert [f"a.jsonl:{i}" in message for i in range(2, 12)] == [True] * 10
    assert message.endswith('leave them out with on_error="skip" (--on_error skip)')
    with pytest.raises(InputError) as caught:
        list(JsonLines(write("b.jsonl", bad * 12), ["text"]))
    message = str(caught.value)
    assert message.startswith("more than 10 rows can't be read, the first 10: ")
    assert "b.jsonl:10)" in message and "b.jsonl:11" not in message
    with pytest.raises(InputError, match=r"^one row can't be read: .*b.jsonl:2 has no field"):
        list(JsonLines(write("b.jsonl", good + bad + good), ["text"]))


def test_skipped_rows_are_counted_anew_in_each_pass(write):
    path = write("a.jsonl", '{}\n{"text": "x"}\n' * 8)
    read = JsonLines(path, ["text"], on_error="skip")
    for _ in range(2):
        assert len(list(read)) == 8
        assert read.skipped.count == 8
        assert [row.line for row in read.skipped.samples] == [1, 3, 5, 7, 9]
    passing = iter(read)
    next(passing)
    assert read.skipped.count == 1


def test_on_error_is_one_of_two(write):
    with pytest.raises(ValueError, match="on_error is 'ignore', not one of"):
        PlainText(write("a.txt", "x"), on_error="ignore")


def test_a_unit_is_one_of_three(write):
    with pytest.raises(InputError, match="unit must be one of file, .* Received: 'lines'"):
        PlainText(write("a.txt", "x"), unit="lines")


@pytest.mark.parametrize("form", BY_ROW)
def test_an_example_is_found_again(form, write):
    reader, rows = FORMATS[form]
    bad = rows[0].replace("one", "o\0ne")
    first, second = write("a.data", "\n".join([bad, *rows])), write("b.data", rows[0])
    read = reader([first, second], on_error="skip")
    assert words(read) == [*WORDS, "one"]
    lines = [rows[0].count("\n") * i + i + 1 for i in range(1, 4)]
    places = [f"{first}:{line}" for line in lines] + [f"{second}:1"]
    assert [read.place(number) for number in range(4)] == places


def test_where_readers_without_lines_find_an_example(write):
    path = write("a.txt", "x\ny\n")
    assert PlainText(path).place(1) == str(path)
    pairs = LinePairs(path, write("b.txt", "u\nv\n"))
    assert pairs.place(1) == f"{path}:2"


def test_a_bad_row_says_where_it_stands():
    assert str(BadRow("a.csv", 3, "is odd")) == "a.csv:3 is odd"
    assert str(BadRow("a.html", None, "is odd")) == "a.html is odd"


def test_digest_follows_bytes_order_and_options(write, tmp_path):
    one, two = write("one.csv", "text\nx\n"), write("two.csv", "text\ny\n")
    moved = write("elsewhere/three.csv", "text\nx\n")
    digest = Csv([one, two], ["text"]).digest()
    assert Csv([one], ["text"]).digest() == Csv([moved], ["text"]).digest()
    others = [
        Csv([two, one], ["text"]),
        Csv([one], ["text"]),
        Csv([one, two], {"text": "text", "again": "text"}),
        Csv([one, two], ["text"], delimiter=";"),
        Csv([one, two], ["text"], columns=["text"]),
        Csv([one, two], ["text"], on_error="skip"),
        Tsv([one, two], ["text"]),
    ]
    assert len({digest, *(reader.digest() for reader in others)}) == 8
    two.write_text("text\nz\n")
    assert Csv([one, two], ["text"]).digest() != digest


def test_names_are_fit_for_folders(write):
    assert PlainText(write("My data (1).txt.gz", "x")).name == "My-data-1"
    assert PlainText(write("日本.txt", "x")).name == "data"


def test_memory_stays_flat(write):
    """Forty times the rows, the same memory."""

    def peak(rows: int) -> int:
        path = write("a.jsonl", ('{"text": "%s"}\n' % ("x" * 500)) * rows)
        read = JsonLines(path, ["text"])
        tracemalloc.start()
        count = sum(1 for _ in read)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == rows
        return most

    small = peak(100)
    assert peak(4_000) < small + 100_000


def test_whole_files_cannot_be_skipped(write):
    """Only rows can be left out: a missing or damaged file is always refused."""
    with pytest.raises(InputError, match="no SQuAD file"):
        list(Squad(write("a.json", "{}"), on_error="skip"))
    source = write("a.en", "one\n")
    with pytest.raises(InputError, match="1 lines and .* has 2"):
        list(LinePairs(source, write("a.de", "eins\nzwei\n"), on_error="skip"))
