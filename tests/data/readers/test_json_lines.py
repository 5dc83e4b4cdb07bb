import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.readers import Field, JsonLines
from tfllm.data.readers.json_lines import parse_json
from tfllm.errors import InputError


def test_fields_are_named_and_others_left(write):
    path = write("a.jsonl", '{"dialogue": "Hi\\r\\nyou", "class": 3, "id": 7}\n\n  \n')
    fields = {"text": "dialogue", "label": Field("class", "label")}
    assert list(JsonLines(path, fields)) == [{"text": "Hi\r\nyou", "label": 3}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is no JSON: Expecting property name .* at column 2"),
        ('{"text": "a"} {}', "is no JSON: Extra data at column 15"),
        ('{"text": "a\tb"}', "is no JSON: Invalid control character"),
        ('["text"]', "is no JSON object but of type list"),
        ('"text"', "is no JSON object but of type str"),
        ("null", "is no JSON object but of type NoneType"),
        ('{"texts": "a"}', "has no field 'text'; its fields: 'texts'"),
        ('{"text": null}', "field 'text' is null"),
        ('{"text": 5}', "field 'text' is 5, not text"),
        ('{"text": "\\ud83d"}', "half of a surrogate pair"),
        ('{"text": "a", "n": NaN}', "NaN is no number"),
        ('{"text": "a", "n": %s}' % ("9" * 5000), "is no JSON|Exceeds the limit"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_lines_that_cannot_be_read(write, line, reason):
    path = write("a.jsonl", '{"text": "good"}\n' + line + "\n")
    with pytest.raises(InputError, match=rf"one row can't be read: \S*a.jsonl:2 .*({reason})"):
        list(JsonLines(path, ["text"]))
    read = JsonLines(path, ["text"], on_error="skip")
    assert list(read) == [{"text": "good"}] and read.skipped.count == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(json_values)
def test_json_is_parsed_as_it_was_written(value):
    assert parse_json(json.dumps(value)) == value
