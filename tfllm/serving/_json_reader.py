"""JSON as TensorFlow Serving reads it.

The server parses with RapidJSON 1.1.0, not with Python's rules: of a doubled key the first counts
but both are echoed, bytes after the value are not looked at, `NaN` and `Inf` are numbers, a NUL
ends the document, nesting has no limit, doubles are rounded in RapidJSON's own steps, and every
error has a text and the offset of a byte. Nothing here calls itself, so that a deep document costs
memory and no stack.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from tfllm.serving.errors import SessionError

__all__ = ["JsonObject", "parse_json"]

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_WHOLE = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_DIGITS = re.compile(rb"[0-9]*")
# A whole list of integers that are surely within 32 bits: most of what a tensor is.
_INTEGERS = re.compile(
    rb"\s*-?(?:0|[1-9][0-9]{0,8})(?:\s*,\s*-?(?:0|[1-9][0-9]{0,8}))*\s*\]".replace(
        rb"\s", rb"[ \t\n\r]"
    )
)
_OPENING = re.compile(rb"\[+")
_CLOSING = re.compile(rb"\]+")
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_QUOTE, _BACKSLASH, _MINUS, _POINT = b'"\\-.'
_ESCAPES = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
_LITERALS = {b"n"[0]: (b"null", None), b"t"[0]: (b"true", True), b"f"[0]: (b"false", False)}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_EXPONENT_DIGITS = 12  # what is longer, and cut to so many, is still beyond every double

_TOO_BIG = "Number too big to be stored in double."
_INVALID = "Invalid value."
_SURROGATE = "The surrogate pair in string is invalid."


class JsonObject:
    """A JSON object: its members in order, doubled names included.

    Attributes:
        members: pairs of a name, as bytes, and a value.
    """

    __slots__ = ("members",)

    def __init__(self) -> None:
        """Start without members."""
        self.members: list[tuple[bytes, Any]] = []

    def __contains__(self, name: bytes) -> bool:
        """Say whether some member has that name."""
        return any(known == name for known, _ in self.members)

    def get(self, name: bytes) -> Any:
        """Give the value of the first member of that name; None where there is none."""
        return next((value for known, value in self.members if known == name), None)


def parse_json(body: bytes) -> Any:
    """Parse the value that a body starts with.

    Returns:
        `None`, `bool`, `int` (within 64 bits), `float`, `bytes`, `list` or `JsonObject`. Strings
        are the bytes they were sent as, whether or not they are UTF-8.

    Raises:
        SessionError: INVALID_ARGUMENT with the server's text.
    """
    if not body:
        raise SessionError("INVALID_ARGUMENT", "JSON Parse error: The document is empty")
    return _Reader(body).document()


class _Reader:
    """A place in a text, and the containers that are open there."""

    def __init__(self, body: bytes) -> None:
        self.text = body.partition(b"\x00")[0]
        self.at = 0
        for byte in _BYTE_ORDER_MARK:  # each of the three may come alone
            self.at += self.peek() == byte
        self.open: list[list[Any] | JsonObject] = []
        self.name = b""
        self.root: Any = None

    def document(self) -> Any:
        self.skip_space()
        if self.peek() in b"\x00]},:":
            self.fail("The document is empty.")
        self.read_value()
        while self.open:
            self.skip_space()
            top = self.open[-1]
            if isinstance(top, list):
                self.read_element(first=not top)
            else:
                self.read_member(first=not top.members)
        return self.root

    def peek(self) -> int:
        """Give the next byte; at the end a NUL, which is in no text."""
        return self.text[self.at] if self.at < len(self.text) else 0

    def take(self, wanted: bytes) -> bool:
        """Go past bytes as long as they are the wanted ones; say whether all were."""
        for byte in wanted:
            if self.peek() != byte:
                return False
            self.at += 1
        return True

    def skip_space(self) -> None:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]

    def fail(self, message: str, offset: int | None = None) -> NoReturn:
        offset = self.at if offset is None else offset
        text = f"JSON Parse error: {message} at offset: {offset}"
        raise SessionError("INVALID_ARGUMENT", text)

    def read_element(self, first: bool) -> None:
        if self.peek() == b"]"[0]:
            self.close_lists()
            return
        if not first:
            if not self.take(b","):
                self.fail("Missing a comma or ']' after an array element.")
            self.skip_space()
        self.read_value()

    def close_lists(self) -> None:
        """Go past a run of brackets, as far as what they close are lists."""
        end = _CLOSING.match(self.text, self.at).end()  # type: ignore[union-attr]
        while self.at < end and self.open and isinstance(self.open[-1], list):
            self.open.pop()
            self.at += 1

    def read_member(self, first: bool) -> None:
        if self.take(b"}"):
            self.open.pop()
            return
        if not first:
            if not self.take(b","):
                self.fail("Missing a comma or '}' after an object member.")
            self.skip_space()
        if self.peek() != _QUOTE:
            self.fail("Missing a name for object member.")
        self.name = self.read_string()
        self.skip_space()
        if not self.take(b":"):
            self.fail("Missing a colon after a name of object member.")
        self.skip_space()
        self.read_value()

    def read_value(self) -> None:
        byte = self.peek()
        if byte == _QUOTE:
            self.add(self.read_string())
        elif byte in b"[{":
            self.read_container(byte)
        elif byte in _LITERALS:
            self.add(self.read_literal(*_LITERALS[byte]))
        else:
            self.add(self.read_number())

    def open_lists(self) -> None:
        """Go past a run of brackets, all but the last."""
        end = _OPENING.match(self.text, self.at).end() - 1  # type: ignore[union-attr]
        for _ in range(self.at, end):
            container: list[Any] = []
            self.add(container)
            self.open.append(container)
        self.at = end

    def read_container(self, byte: int) -> None:
        if byte == b"["[0]:
            self.open_lists()
        self.at += 1
        maybe = byte == b"["[0] and self.peek() in b"-0123456789 \n"
        integers = _INTEGERS.match(self.text, self.at) if maybe else None
        if integers:
            self.at = integers.end()
            self.add([int(digits) for digits in integers.group()[:-1].split(b",")])
            return
        container: list[Any] | JsonObject = [] if byte == b"["[0] else JsonObject()
        self.add(container)
        self.open.append(container)

    def add(self, value: Any) -> None:
        if not self.open:
            self.root = value
            return
        top = self.open[-1]
        if isinstance(top, list):
            top.append(value)
        else:
            top.members.append((self.name, value))

    def read_literal(self, word: bytes, value: Any) -> Any:
        if not self.take(word):
            self.fail(_INVALID)
        return value

    def read_string(self) -> bytes:
        self.at += 1
        pieces = []
        while True:
            plain = _PLAIN.match(self.text, self.at)
            pieces.append(plain.group())  # type: ignore[union-attr]
            self.at = plain.end()  # type: ignore[union-attr]
            byte = self.peek()
            if byte == _QUOTE:
                self.at += 1
                return b"".join(pieces)
            if byte == 0:
                self.fail("Missing a closing quotation mark in string.")
            if byte != _BACKSLASH:
                self.fail("Invalid escape character in string.")
            pieces.append(self.read_escape())

    def read_escape(self) -> bytes:
        start = self.at
        self.at += 1
        byte = self.peek()
        self.at += 1
        if byte in _ESCAPES:
            return bytes([_ESCAPES[byte]])
        if byte != b"u"[0]:
            self.fail("Invalid escape character in string.", start)
        code = self.read_hex(start)
        if 0xD800 <= code < 0xDC00:
            low = self.read_hex(start) if self.take(b"\\u") else 0
            if not 0xDC00 <= low < 0xE000:
                self.fail(_SURROGATE, start)
            code = 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00
        # The second half of a pair passes alone: the server doesn't look.
        return chr(code).encode(errors="surrogatepass")

    def read_hex(self, start: int) -> int:
        digits = _HEX.match(self.text, self.at)
        if digits is None:
            self.fail("Incorrect hex digit after \\u escape in string.", start)
        self.at += 4
        return int(digits.group(), 16)

    def read_number(self) -> int | float:
        start = self.at
        whole = _WHOLE.match(self.text, start)
        if whole is None:
            special = self.read_special()
            digits = b""
        else:
            self.at = whole.end()
            digits = whole.group().removeprefix(b"-")
        negative = self.text[start] == _MINUS
        fraction, exponent = self.read_fraction(), self.read_exponent()
        if fraction is None and exponent is None:
            if whole is None:
                return special
            # Python doesn't read thousands of digits, and no 64-bit integer has more than 20.
            if len(digits) <= 20 and int(digits) <= (2**63 if negative else 2**64 - 1):
                return int(whole.group())
        double = _double(digits, fraction or b"", exponent or b"0", negative)
        if double is None:
            self.fail(_TOO_BIG, start)
        return -double if negative else double

    def read_special(self) -> float:
        """Read `NaN`, `Inf` or `Infinity`, as forgiving as the server of what stands before it."""
        negative = self.take(b"-")
        if self.peek() not in b"NI":
            self.fail(_INVALID)
        if self.take(b"NaN"):
            return float("nan")
        if not self.take(b"Inf") or (self.peek() == b"i"[0] and not self.take(b"inity")):
            self.fail(_INVALID)
        return float("-inf") if negative else float("inf")

    def read_fraction(self) -> bytes | None:
        if self.peek() != _POINT:
            return None
        self.at += 1
        return self.read_digits("Miss fraction part in number.")

    def read_exponent(self) -> bytes | None:
        if self.peek() not in b"eE":
            return None
        self.at += 1
        minus = b"-" if self.peek() == _MINUS else b""
        self.at += self.peek() in b"+-"
        return minus + self.read_digits("Miss exponent in number.")

    def read_digits(self, missing: str) -> bytes:
        digits = _DIGITS.match(self.text, self.at).group()  # type: ignore[union-attr]
        if not digits:
            self.fail(missing)
        self.at += len(digits)
        return digits


def _double(whole: bytes, fraction: bytes, exponent: bytes, negative: bool) -> float | None:
    """Round a decimal as RapidJSON does, in up to 17 digits and one multiplication.

    Returns:
        its absolute value, which can be one unit in the last place from the nearest double; None
        where it is too big.
    """
    if len(whole) + len(fraction) <= 15 and exponent == b"0":
        return float((whole or b"0") + b"." + (fraction or b"0"))  # then the steps below are exact
    significand, is_big = _whole_significand(whole, negative)
    if significand is None:
        return None
    significand, places = _with_fraction(significand, fraction, max(len(whole) - 1, 0), is_big)
    shift = _exponent(exponent)
    if len(exponent) > 1 and shift > 308 + places:
        return None
    return _scaled(significand, shift - places)


def _exponent(text: bytes) -> int:
    """Read an exponent; one that is beyond every double stays so when it is cut short."""
    number = int(text.removeprefix(b"-").lstrip(b"0")[:_EXPONENT_DIGITS] or b"0")
    return -number if text.startswith(b"-") else number


def _whole_significand(whole: bytes, negative: bool) -> tuple[float | None, bool]:
    """Read the digits before the point: an integer while it fits 64 bits, then a double."""
    limit = 2**63 if negative else 2**64 - 1
    number: int | float = 0
    for place, digit in enumerate(whole):
        if number * 10 + digit - 48 > limit:
            return _grown(float(number), whole[place:]), True
        number = number * 10 + digit - 48
    return number, False


def _grown(number: float, digits: bytes) -> float | None:
    for digit in digits:
        if number >= 1.7976931348623157e307:
            return None
        number = number * 10 + (digit - 48)
    return number


def _with_fraction(
    significand: float, fraction: bytes, digits: int, is_big: bool
) -> tuple[float, int]:
    """Append the digits after the point while they count; say how many were taken."""
    places = 0
    if not is_big:
        while places < len(fraction) and significand <= 2**53 - 1:
            significand = significand * 10 + fraction[places] - 48
            places += 1
            digits += significand != 0
    number = float(significand)
    for digit in fraction[places:]:
        if digits >= 17:
            break
        number = number * 10 + (digit - 48)
        places += 1
        digits += number > 0
    return number, places


def _scaled(significand: float, shift: int) -> float:
    if shift >= 0:
        return significand * float(f"1e{shift}")
    if shift >= -308:
        return significand / float(f"1e{-shift}")
    if shift < -616:
        return 0.0
    return significand / 1e308 / float(f"1e{-shift - 308}")
