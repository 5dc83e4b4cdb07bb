"""Read documents from plain text files, streaming, and say where a file can't be read."""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, TextIO, cast, get_args

from tfllm.errors import InputError

__all__ = [
    "DocumentUnit",
    "check_unit",
    "find_files",
    "hash_place",
    "not_utf8",
    "open_bytes",
    "read_documents",
    "split_by_hash",
]

DocumentUnit = Literal["file", "blank_line", "line"]
_CHUNK_BYTES = 1 << 20
# No UTF-8 text begins with these, so a packed file is known whatever its name.
_GZIP = b"\x1f\x8b"
# A lone file is cut at blank lines into pieces before these are dealt to training and validation:
# of about so many characters, or smaller ones that make a hundred.
_PIECE_CHARACTERS = 2_000


def find_files(patterns: str | Sequence[str], flag: str) -> list[Path]:
    """Resolve paths and globs, sorted, each file once.

    Args:
        patterns: one path or glob, or several.
        flag: which flag they were given to, for messages.

    Raises:
        InputError: if one matches nothing, or is no file.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if pattern.startswith("tfds:"):
            raise InputError(
                f"{flag} {pattern!r} is a data set of TFDS and no file. Give it alone where data "
                "sets of TFDS are taken, else files"
            )
        is_glob = glob.has_magic(pattern) and not os.path.exists(pattern)
        matches = sorted(glob.glob(pattern, recursive=True)) if is_glob else [pattern]
        # `os.path`, since `Path` raises for names that are too long or lie in closed folders.
        files = [Path(match) for match in matches if os.path.isfile(match)]
        if not files:
            raise InputError(_nothing_found(pattern, flag, is_glob=is_glob, any_match=matches))
        found.update(dict.fromkeys(files))
    return list(found)


def _nothing_found(pattern: str, flag: str, *, is_glob: bool, any_match: list[str]) -> str:
    if is_glob:
        return f"{flag} {pattern!r} matches no file. Give a path, or a glob that matches files"
    if os.path.isdir(pattern):
        return f"{flag} {pattern!r} is a folder. Give its files, for example '{pattern}/*.txt'"
    if os.path.lexists(pattern):
        return f"{flag} {pattern!r} is no regular file. Give a text file, or a glob in quotes"
    return f"{flag} {pattern!r} does not exist. Give a text file, or a glob in quotes"


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacked if it is gzip.

    Raises:
        InputError: if it can't be opened or, while it is read, turns out to be damaged; if it is
            empty.
    """
    try:
        with path.open("rb") as file:
            start = file.peek(2)[:2]
            if start == _GZIP:
                unpacked = _unpack(file)
            elif start and path.suffix == ".gz":
                raise InputError(f"{path} is no gzip file. Pack it, or drop .gz from its name")
            else:
                unpacked = file
            if not unpacked.peek(1):
                raise InputError(f"{path} is empty. Give a file with text")
            yield unpacked
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path} is a damaged gzip file: {error}. Fetch or pack it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error


def _unpack(file: io.BufferedReader) -> io.BufferedReader:
    # A buffer in C around it cuts lines several times faster.
    return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)))


def check_unit(unit: str) -> None:
    """See that a unit of documents is one that there is.

    Raises:
        InputError: if not.
    """
    units = get_args(DocumentUnit)
    if unit not in units:
        raise InputError(f"a document's unit must be one of {', '.join(units)}. Received: {unit!r}")


def read_documents(files: Sequence[Path], unit: DocumentUnit) -> Iterator[str]:
    r"""Yield the documents of UTF-8 files in order; a document of white space alone is left out.

    Args:
        files: packed with gzip or not; a byte-order mark at a file's start is dropped; line ends
            become `\n`.
        unit: `file`: each file is one document; `blank_line`: blank lines part documents;
            `line`: each line is one.

    Raises:
        InputError: if a file can't be read, is empty, or is not UTF-8 (with the byte offset).
    """
    for path in files:
        try:
            with open_bytes(path) as data, io.TextIOWrapper(data, "utf-8-sig") as file:
                yield from (text for text in _cut(file, unit) if text and not text.isspace())
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error


def _cut(file: TextIO, unit: DocumentUnit) -> Iterator[str]:
    if unit == "file":
        yield file.read()
    elif unit == "line":
        yield from (line.rstrip("\n") for line in file)
    else:
        yield from _paragraphs(file)


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in lines:
        if not line.isspace():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph).rstrip("\n")
            paragraph = []
    if paragraph:
        yield "".join(paragraph).rstrip("\n")


def not_utf8(path: Path) -> InputError:
    """Find the first bad byte: the error that a text file raises counts within its buffer.

    Args:
        path: a file that is not UTF-8; if it is packed, bytes are counted in what it holds.

    Returns:
        the error to raise.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with open_bytes(path) as file:
        while True:
            chunk = file.read(_CHUNK_BYTES)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                where, byte = offset - held + error.start, error.object[error.start]
                return InputError(
                    f"{path} is not UTF-8: byte 0x{byte:02x} at offset {where}. "
                    "Convert it first, for example with iconv"
                )
            offset += len(chunk)


def split_by_hash(
    documents: Iterable[str], validation_fraction: float
) -> tuple[list[str], list[str]]:
    """Deal documents to training and validation by a hash of their text.

    So a document stays on its side when others are added, removed or moved, and equal documents
    are never on both sides. A lone document is first cut at blank lines.

    Args:
        documents: in any order.
        validation_fraction: share of the documents for validation, above 0 and below 1.

    Returns:
        training and validation documents, in their order.

    Raises:
        InputError: if there is only one paragraph.
    """
    documents = list(documents)
    if len(documents) == 1:
        documents = list(_pieces(documents[0]))
    if len(documents) < 2:
        raise InputError(
            "the text is one paragraph and can't be split into training and validation. Give more "
            "text, or a file of its own with --validation"
        )
    places = [hash_place(document) for document in documents]
    # Where there are few documents, each side gets at least the one that is nearest to it.
    limit = min(max(validation_fraction, min(places)), max(places) - 2**-49)
    sides: tuple[list[str], list[str]] = ([], [])
    for document, place in zip(documents, places, strict=True):
        sides[place <= limit].append(document)
    return sides


def hash_place(text: str) -> float:
    """A number in [0, 1) that follows from the text alone."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _pieces(document: str) -> Iterator[str]:
    least = min(_PIECE_CHARACTERS, len(document) // 100)
    piece: list[str] = []
    size = 0
    for paragraph in document.split("\n\n"):
        piece.append(paragraph)
        size += len(paragraph)
        if size > least:
            yield "\n\n".join(piece)
            piece, size = [], 0
    if piece:
        yield "\n\n".join(piece)
