import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.readers.lines import read_lines


def test_only_line_feeds_end_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("a\rb\u2028c\x85d\x0be\r\nf\r\r\n".encode())
    assert [line for line, _ in read_lines(path)] == ["a\rb\u2028c\x85d\x0be", "f\r"]


@given(st.lists(st.text(st.characters(exclude_characters="\n\r\0", codec="utf-8")), min_size=1))
def test_lines_come_back_as_they_were_written(lines):
    lines = [*lines, "end"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())
        assert list(read_lines(path)) == [(line, None) for line in lines]


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=8))
def test_faults_name_the_first_bad_byte_of_the_line(lines):
    # No file of these may begin as gzip does.
    data = b"\n".join([b"begin", *lines, b"end"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes(data)
        read = list(read_lines(path))
    rows = data.split(b"\n")
    assert len(read) == len(rows)
    offset = 0
    for number, (row, (_, fault)) in enumerate(zip(rows, read, strict=True), 1):
        try:
            has_nul = "\0" in row.decode()
            assert (fault is not None) == has_nul
        except UnicodeDecodeError as error:
            byte, place = row[error.start], offset + error.start
            assert fault.reason == f"not UTF-8: byte 0x{byte:02x} at offset {place}"
        assert fault is None or fault.line == number
        offset += len(row) + 1
