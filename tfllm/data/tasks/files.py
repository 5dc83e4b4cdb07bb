"""Opening files of named fields by their suffix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfllm.data.readers.csv_files import Csv
from tfllm.data.readers.field import Fields
from tfllm.data.readers.json_lines import JsonLines
from tfllm.data.readers.parquet import Parquet
from tfllm.data.readers.reader import OnError, Reader
from tfllm.data.readers.tfds_sets import Tfds, split_tfds_name
from tfllm.data.readers.tsv_files import Tsv
from tfllm.data.text_files import find_files
from tfllm.errors import InputError

__all__ = ["is_tfds", "open_by_suffix", "open_tfds", "suffix_of"]

_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet")
_TABLES = (".csv", ".tsv", ".txt")


def is_tfds(patterns: Sequence[str]) -> bool:
    """Whether it is one data set of TFDS."""
    return len(patterns) == 1 and patterns[0].startswith("tfds:")


def open_tfds(source: str, flag: str, fields: Fields, on_error: OnError) -> Tfds:
    """Open a data set of TFDS; its split is the part's name unless it is given.

    Raises:
        InputError: if it is not prepared, or lacks the split or a feature.
    """
    name, split = split_tfds_name(source, flag.lstrip("-"))
    try:
        return Tfds(name, fields, split, on_error=on_error)
    except InputError as error:
        raise InputError(f"{flag} {error}") from error


def open_by_suffix(
    patterns: Sequence[str],
    flag: str,
    fields: Fields,
    *,
    columns: Sequence[str] = (),
    quoting: bool | None = None,
    on_error: OnError = "refuse",
) -> Reader:
    """Open tables, JSON lines, Parquet files or a data set of TFDS.

    Args:
        patterns: paths and globs, all of one suffix: `.csv`, tab-separated `.tsv` and `.txt`,
            `.jsonl` and `.json` (one object a line), each packed (`.gz`) or not, or `.parquet`;
            or `tfds:name/config@split` alone.
        flag: which flag they were given to, for messages.
        fields: name in the example → column, key or feature.
        columns: names of a table's columns; none: the first row of each file holds them.
        quoting: whether quotes around a cell are its shell; None: in CSV yes, else no.
        on_error: see `Reader`.

    Raises:
        InputError: if nothing is found, or the suffix is another one.
    """
    if is_tfds(patterns):
        return open_tfds(patterns[0], flag, fields, on_error)
    files = find_files(patterns, flag)
    suffix = suffix_of(files, flag)
    if columns and suffix not in _TABLES:
        raise InputError(
            f"{flag} {files[0]} names its own fields: columns are named for {', '.join(_TABLES)} "
            f"only. Received: {', '.join(columns)}"
        )
    named = tuple(columns) or None
    if suffix == ".csv" and quoting is not False:
        return Csv(files, fields, named, on_error=on_error)
    if suffix == ".csv":
        raise InputError(f"{flag} {files[0]}: quotes of CSV are always shells. Give it as TSV")
    if suffix in _TABLES:
        return Tsv(files, fields, named, quoting=bool(quoting), on_error=on_error)
    if suffix == ".parquet":
        return Parquet(files, fields, on_error=on_error)
    return JsonLines(files, fields, on_error=on_error)


def suffix_of(files: Sequence[Path], flag: str, known: Sequence[str] = _SUFFIXES) -> str:
    """Give the one suffix that files have, `.gz` left away.

    Raises:
        InputError: if there are several, or it is not known.
    """
    suffixes = sorted({_suffix(path) for path in files})
    if len(suffixes) > 1:
        raise InputError(
            f"{flag} names files of several formats: {', '.join(s or 'none' for s in suffixes)}. "
            "Give files of one"
        )
    if suffixes[0] not in known:
        raise InputError(
            f"{flag} {files[0]}: the suffix {suffixes[0]!r} does not say the format. Give one of "
            f"{', '.join(known)}, packed (.gz) or not"
        )
    return suffixes[0]


def _suffix(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
