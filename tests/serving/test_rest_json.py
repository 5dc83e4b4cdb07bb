import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.serving import SessionError
from tfllm.serving._json_reader import JsonObject, parse_json
from tfllm.serving._json_writer import debug_text, decimals
from tfllm.serving.rest import error_body, reply_body


def plain(value):
    """Give a parsed value as Python's json would."""
    if isinstance(value, JsonObject):
        return {name.decode(): plain(member) for name, member in value.members}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


texts = st.text(st.characters(exclude_categories=["Cs"]))
short_floats = st.decimals(-1000, 1000, allow_nan=False, places=3).map(float)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | short_floats | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_ordinary_json_is_read_as_python_reads_it(value, ascii_only, indent):
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    # RapidJSON stops at a NUL, which JSON has only in escapes.
    assert plain(parse_json(body.encode())) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(body):
    try:
        parse_json(body)
    except SessionError as error:
        assert error.code == "INVALID_ARGUMENT"
        assert error.message.startswith("JSON Parse error: ")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_are_within_an_ulp_of_what_was_sent(value):
    read = parse_json(repr(value).encode())
    # Seventeen digits are rounded once when they are read and once when they are scaled.
    assert math.isclose(read, value, rel_tol=5e-16, abs_tol=1e-323)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b" ", "The document is empty. at offset: 1"),
        (b"]", "The document is empty. at offset: 0"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b'{"a"', "Missing a colon after a name of object member. at offset: 4"),
        (b'{"a":', "Invalid value. at offset: 5"),
        (b'{"a":1', "Missing a comma or '}' after an object member. at offset: 6"),
        (b"[", "Invalid value. at offset: 1"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[+1]", "Invalid value. at offset: 1"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e+]", "Miss exponent in number. at offset: 4"),
        (b"[1e309]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"9" * 400 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"9" * 5000 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[-1" + b"0" * 5000 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[1e" + b"9" * 5000 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[trux]", "Invalid value. at offset: 4"),
        (b"[Na]", "Invalid value. at offset: 3"),
        (b"[Infinit]", "Invalid value. at offset: 8"),
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\x00"]', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\n"]', "Invalid escape character in string. at offset: 3"),
        (b'["a\\x"]', "Invalid escape character in string. at offset: 3"),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\ud800 "]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\ud800\\u0041"]', "The surrogate pair in string is invalid. at offset: 2"),
    ],
)
def test_errors_have_rapidjsons_words_and_offsets(body, message):
    with pytest.raises(SessionError) as caught:
        parse_json(body)
    assert caught.value.message == f"JSON Parse error: {message}"


def test_what_rapidjson_lets_pass():
    assert parse_json(b"\xef\xbb\xbf [1] rest") == [1]
    assert parse_json(b"\xbb\xbf[1]") == [1]
    assert parse_json(b"[1]\x00[") == [1]
    assert parse_json(b'["\\udc41"]') == ["\udc41".encode(errors="surrogatepass")]
    assert parse_json(b"[Inf, -Infinity, 9e308, -0, 1e-400]") == [
        math.inf, -math.inf, math.inf, 0, 0.0,
    ]  # fmt: skip
    assert math.isnan(parse_json(b"-NaN"))
    assert type(parse_json(b"18446744073709551615")) is int
    assert type(parse_json(b"18446744073709551616")) is float
    assert parse_json(b"[1e" + b"0" * 5000 + b"5, 1e-" + b"9" * 5000 + b"]") == [1e5, 0.0]
    assert parse_json(b"1e-" + b"0" * 5000 + b"2") == 0.01
    assert type(parse_json(b"-9223372036854775809")) is float
    doubled = parse_json(b'{"a": 1, "a": 2}')
    assert doubled.get(b"a") == 1
    assert debug_text(doubled) == '{\n    "a": 1,\n    "a": 2\n}'


@given(st.lists(st.floats(width=32), min_size=1))
def test_float32_reads_back_as_the_same(numbers):
    array = np.array(numbers, np.float32)
    back = np.array([float(text) for text in decimals(array)], np.float64).astype(np.float32)
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.floats(), min_size=1))
def test_float64_reads_back_as_the_same(numbers):
    array = np.array(numbers, np.float64)
    np.testing.assert_array_equal([float(text) for text in decimals(array)], array)


def test_numbers_look_as_the_servers():
    array = np.array([0.1, 3, 9e6, 3e-5, 1 / 3, -0.0, 16777216, np.nan, -np.inf], np.float32)
    assert decimals(array) == [
        "0.1", "3.0", "9e+06", "3e-05", "0.333333343", "-0.0", "16777216.0", "NaN", "-Infinity",
    ]  # fmt: skip


shapes = st.lists(st.integers(0, 3), min_size=1, max_size=4)


@given(shapes, st.booleans())
def test_nested_lists_hold_every_value_in_its_place(shape, in_rows):
    array = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    key = "predictions" if in_rows else "outputs"
    assert json.loads(reply_body({"y": array}, in_rows)) == {key: array.tolist()}
    several = json.loads(reply_body({"y": array, "z": -array}, in_rows))[key]
    if in_rows:
        wanted = [{"y": y, "z": z} for y, z in zip(array.tolist(), (-array).tolist(), strict=True)]
    else:
        wanted = {"y": array.tolist(), "z": (-array).tolist()}
    assert several == wanted


@given(st.binary(), st.booleans())
def test_every_byte_of_a_string_is_sent(text, in_rows):
    array = np.array([text, b"x"], object)
    reply = reply_body({"y": array, "y_bytes": array}, in_rows)
    content = json.loads(reply.decode(errors="surrogateescape"))
    first = content["predictions"][0] if in_rows else content["outputs"]
    sent = first["y"] if in_rows else first["y"][0]
    assert sent.encode(errors="surrogateescape") == text


def test_echoes_stop_after_256_bytes_between_tokens():
    value = parse_json(b'{"a": "' + b"x" * 300 + b'", "b": 1}')
    assert debug_text(value) == '{\n    "a": "' + "x" * 300 + '"'
    deep = parse_json(b"[" * 1000 + b"]" * 1000)
    assert debug_text(deep) == "[" * 256
    assert debug_text(parse_json(b"[1.5, NaN, 2]")) == "[1.5, "


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1.0", "1.0"),
        ("1e3", "1000.0"),
        ("-0.0", "-0.0"),
        ("1e20", "100000000000000000000.0"),
        ("1e21", "1e21"),
        ("1.5e30", "1.5e30"),
        ("0.001", "0.001"),
        ("1e-6", "0.000001"),
        ("1.25e-7", "1.25e-7"),
    ],
)
def test_echoed_doubles(number, text):
    assert debug_text(parse_json(f"[{number}]".encode())) == f"[{text}]"


def test_an_error_is_a_reply():
    error = SessionError("INTERNAL", 'said "no"\n\x1f \udcff/é')
    assert error_body(error) == (b'{\n    "error": "said \\"no\\"\\n\\u001F \xff/\xc3\xa9"\n}')
