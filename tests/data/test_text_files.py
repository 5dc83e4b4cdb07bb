import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.text_files import find_files, read_documents, split_by_hash
from tfllm.errors import InputError


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_units(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\n\n \nthree\n")
    assert list(read_documents([path], "file")) == ["one\ntwo\n\n \nthree\n"]
    assert list(read_documents([path], "line")) == ["one", "two", "three"]
    assert list(read_documents([path], "blank_line")) == ["one\ntwo", "three"]


def test_files_are_sorted_and_taken_once(tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        write(tmp_path / name, b"x")
    found = find_files([f"{tmp_path}/*.txt", f"{tmp_path}/a.txt"], "--train")
    assert [path.name for path in found] == ["a.txt", "b.txt"]


def test_a_name_with_brackets_is_a_file_if_it_exists(tmp_path):
    path = write(tmp_path / "a[1].txt", b"x")
    assert find_files(str(path), "--train") == [path]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("no.txt", "--train '.*no.txt' does not exist"),
        ("*.csv", "matches no file"),
        ("", "is a folder.*\\*.txt"),
    ],
)
def test_nothing_found(tmp_path, pattern, message):
    with pytest.raises(InputError, match=message):
        find_files(str(tmp_path / pattern), "--train")


@pytest.mark.parametrize("offset", [0, 5, (1 << 20) - 1, 1 << 20, (1 << 20) + 7])
def test_the_byte_that_is_not_utf8_is_named(tmp_path, offset):
    path = write(tmp_path / "a.txt", b"x" * offset + b"\xff" + b"y" * 10)
    with pytest.raises(InputError, match=rf"a.txt is not UTF-8: byte 0xff at offset {offset}\."):
        list(read_documents([path], "file"))


def test_a_character_cut_off_at_the_end_is_named(tmp_path):
    path = write(tmp_path / "a.txt", "ab€".encode()[:-1])
    with pytest.raises(InputError, match="byte 0xe2 at offset 2"):
        list(read_documents([path], "line"))


@pytest.mark.parametrize("unit", ["file", "blank_line", "line"])
def test_packed_files_are_read_like_others(tmp_path, unit):
    data = b"\xef\xbb\xbfone\r\ntwo\n\nthree\n"
    plain = write(tmp_path / "a.txt", data)
    packed = write(tmp_path / "a.txt.gz", gzip.compress(data[:9]) + gzip.compress(data[9:]))
    assert list(read_documents([packed], unit)) == list(read_documents([plain], unit))


def test_packed_files_that_are_damaged(tmp_path):
    packed = gzip.compress(b"one\ntwo\n" * 100)
    for name, data in (("cut", packed[:-9]), ("garbage", packed + b"x"), ("bad", packed[:9])):
        path = write(tmp_path / f"{name}.gz", data)
        with pytest.raises(InputError, match=rf"{name}.gz is a damaged gzip file: .*again"):
            list(read_documents([path], "file"))
    with pytest.raises(InputError, match="plain.gz is no gzip file"):
        list(read_documents([write(tmp_path / "plain.gz", b"one")], "file"))
    with pytest.raises(InputError, match="empty.gz is empty"):
        list(read_documents([write(tmp_path / "empty.gz", gzip.compress(b""))], "file"))


def test_a_nul_character_and_a_lone_byte_order_mark(tmp_path):
    path = write(tmp_path / "a.txt", b"a\0b\n")
    assert list(read_documents([path], "line")) == ["a\0b"]
    assert list(read_documents([write(tmp_path / "b.txt", b"\xef\xbb\xbf")], "file")) == []


def test_a_data_set_of_tfds_is_no_file():
    with pytest.raises(InputError, match="--train 'tfds:glue/sst2' is a data set of TFDS"):
        find_files(["tfds:glue/sst2"], "--train")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe' is no regular file"):
        find_files(str(tmp_path / "pipe"), "--train")


def test_empty_and_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="a.txt is empty"):
        list(read_documents([write(tmp_path / "a.txt", b"")], "file"))
    loop = tmp_path / "loop.txt"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match="loop.txt"):
        list(read_documents([loop], "file"))


@given(st.lists(st.text(min_size=1), min_size=60, max_size=80, unique=True), st.text(min_size=1))
def test_a_document_stays_on_its_side(documents, another):
    train, validation = split_by_hash(documents, 0.3)
    assert sorted(train + validation) == sorted(documents)
    more_train, more_validation = split_by_hash([another, *reversed(documents)], 0.3)
    assert set(train) <= set(more_train) and set(validation) <= set(more_validation)


def test_a_lone_document_is_cut_at_blank_lines():
    text = "\n\n".join(f"paragraph {i} " + "word " * 150 for i in range(60))
    train, validation = split_by_hash([text], 0.2)
    assert len(train) > len(validation) > 0
    assert sorted("\n\n".join(train + validation).split("\n\n")) == sorted(text.split("\n\n"))


@pytest.mark.parametrize("fraction", [1e-9, 0.5, 1 - 1e-9])
def test_few_documents_leave_no_side_empty(fraction):
    train, validation = split_by_hash(["a", "b", "c"], fraction)
    assert train and validation and sorted(train + validation) == ["a", "b", "c"]


def test_one_paragraph_cannot_be_split():
    with pytest.raises(InputError, match="one paragraph.*--validation"):
        split_by_hash(["a b c"], 0.1)
