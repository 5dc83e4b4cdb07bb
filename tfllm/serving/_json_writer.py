"""JSON as TensorFlow Serving writes it, white space included.

Texts are `str` whose bytes that aren't UTF-8 are escaped surrogates: `text.encode(errors=
"surrogateescape")` gives the bytes to send.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfllm.serving._json_reader import JsonObject

__all__ = ["debug_text", "decimals", "error_json", "nested", "quoted"]

_ECHOED_BYTES = 256
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT = dict(zip('"\\\b\f\n\r\t', ('\\"', "\\\\", "\\b", "\\f", "\\n", "\\r", "\\t"), strict=True))


def quoted(text: bytes | str) -> str:
    """Write a string: only what JSON forbids is escaped, and bytes needn't be UTF-8."""
    if isinstance(text, bytes):
        text = text.decode(errors="surrogateescape")
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return _SHORT.get(character) or f"\\u{ord(character):04X}"


def error_json(message: str) -> str:
    """Write the body of a reply that failed."""
    return f'{{\n    "error": {quoted(message)}\n}}'


def decimals(array: np.ndarray) -> list[str]:
    """Write floats in six digits where those read back as the same, else in nine or seventeen.

    Args:
        array: `<float32>` or `<float64>`, of any shape.
    """
    flat = array.ravel()
    values = flat.tolist()
    texts = [f"{value:.6g}" for value in values]
    same = np.array([float(text) for text in texts], np.float64).astype(flat.dtype) == flat
    digits = 9 if flat.dtype == np.float32 else 17
    for place in np.flatnonzero(~same):
        texts[place] = f"{values[place]:.{digits}g}"
    return [_with_point(text) for text in texts]


def _with_point(text: str) -> str:
    if text in ("nan", "inf", "-inf"):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
    return text if "." in text or "e" in text else f"{text}.0"


def nested(values: list[str], shape: Sequence[int], level: int | None = None) -> str:
    """Write a tensor's values as lists in lists.

    Args:
        values: the text of every value, in order.
        shape: the tensor's sizes.
        level: how many containers are open around it; every value is on a line of its own. None:
            all on one line.
    """
    for axis in reversed(range(len(shape))):
        size, count = shape[axis], math.prod(shape[:axis])
        rows = [values[row * size : (row + 1) * size] for row in range(count)]
        values = [_list(row, None if level is None else level + axis) for row in rows]
    return values[0]


def _list(values: list[str], level: int | None) -> str:
    if level is None or not values:
        return f"[{', '.join(values)}]"
    indent = f"\n{'    ' * (level + 1)}"
    return f"[{indent}{f',{indent}'.join(values)}\n{'    ' * level}]"


def debug_text(value: Any) -> str:
    """Echo a parsed value as the server's messages do: whole tokens, until 256 bytes are full."""
    echo = _Echo()
    echo.write(value)
    return "".join(echo.pieces)


class _Echo:
    """A text that grows until it is long enough."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0

    def put(self, piece: str) -> None:
        self.pieces.append(piece)
        self.size += len(piece.encode(errors="surrogateescape"))

    def write(self, value: Any, before: str = "", level: int = 0) -> bool:
        """Write a value after what parts it from the one before; say whether there is room left.

        It calls itself at most once per byte written, so that depth is no danger.
        """
        if self.size >= _ECHOED_BYTES:
            return False
        if isinstance(value, JsonObject):
            self.put(f"{before}{{")
            return self._write_members(value, level)
        if isinstance(value, list):
            self.put(f"{before}[")
            return self._write_items(value, level)
        if isinstance(value, float) and not math.isfinite(value):
            self.put(before)  # what the server's writer does: it stops there
            return False
        self.put(before + _scalar(value))
        return True

    def _write_members(self, value: JsonObject, level: int) -> bool:
        indent = "\n" + "    " * (level + 1)
        for place, (name, member) in enumerate(value.members):
            if not self.write(name, f",{indent}" if place else indent):
                return False
            if not self.write(member, ": ", level + 1):
                return False
        return self._close("\n" + "    " * level + "}" if value.members else "}")

    def _write_items(self, value: list[Any], level: int) -> bool:
        for place, item in enumerate(value):
            if not self.write(item, ", " if place else "", level + 1):
                return False
        return self._close("]")

    def _close(self, text: str) -> bool:
        if self.size >= _ECHOED_BYTES:
            return False
        self.put(text)
        return True


def _scalar(value: Any) -> str:
    if isinstance(value, bytes):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _shortest(value) if isinstance(value, float) else str(value)


def _shortest(value: float) -> str:
    """Write a double in the fewest digits, plain from 1e-6 up to 1e21."""
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    sign = "-" if value < 0 else ""
    digits, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = digits.partition(".")
    number = (whole + fraction.rstrip("0")).lstrip("0")
    point = len(whole) + int(exponent or 0)
    if whole == "0":
        point -= len(fraction) - len(fraction.lstrip("0")) + 1
    number = number.rstrip("0") if len(number) > 1 else number
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{number}"
    if 0 < point <= 21:
        return f"{sign}{number[:point].ljust(point, '0')}.{number[point:] or '0'}"
    mantissa = number if len(number) == 1 else f"{number[0]}.{number[1:]}"
    return f"{sign}{mantissa}e{point - 1}"
