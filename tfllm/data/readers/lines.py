"""The lines of a file, each decoded by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.text_files import open_bytes

__all__ = ["read_lines"]


def read_lines(path: Path) -> Iterator[tuple[str, BadRow | None]]:
    r"""Yield each line of a UTF-8 file without its end, and what is wrong with it.

    Only `\n` and `\r\n` end a line; a lone `\r`, U+0085 or U+2028 is text, as JSON lines and
    line-aligned files need it. A byte-order mark at the start is dropped.

    Args:
        path: packed with gzip or not.

    Yields:
        the text, where bytes that are not UTF-8 became U+FFFD, and the fault: such bytes, or a
        NUL character, which no text holds and which UTF-16 is full of.

    Raises:
        InputError: if the file can't be read or is empty.
    """
    offset = 0
    with open_bytes(path) as file:
        for number, data in enumerate(file, 1):
            fault = None
            try:
                line = data.decode()
            except UnicodeDecodeError as error:
                line = data.decode(errors="replace")
                where = f"byte 0x{data[error.start]:02x} at offset {offset + error.start:,}"
                fault = BadRow(path, number, f"not UTF-8: {where}")
            else:
                if "\0" in line:
                    fault = BadRow(path, number, "holds a NUL character")
            if number == 1:
                line = line.removeprefix("\ufeff")
            yield line.removesuffix("\n").removesuffix("\r"), fault
            offset += len(data)
