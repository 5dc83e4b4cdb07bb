import pytest

from tfllm.data.readers import Field
from tfllm.data.readers.field import as_fields, take_fields
from tfllm.errors import InputError


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "ü 😀", "ü 😀"),
        ("text", "", ""),
        ("label", "a", "a"),
        ("label", 3, 3),
        ("label", 0.5, 0.5),
        ("label", True, True),
        ("integer", 7, 7),
        ("integer", "-7", -7),
        ("number", 7, 7.0),
        ("number", "4.75", 4.75),
        ("number", "1e-3", 0.001),
        ("texts", ["a", "b"], ["a", "b"]),
        ("texts", [], []),
        ("any", {"a": [1]}, {"a": [1]}),
    ],
)
def test_values_that_fit(kind, value, expected):
    found = Field("f", kind).read(value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("text", 3, "is 3, not text"),
        ("text", ["a"], r"is \['a'\], not text"),
        ("text", "a\ud83d", r"holds \\ud83d, half of a surrogate pair"),
        ("label", ["a"], "not a label"),
        ("label", "\ude00", "surrogate"),
        ("integer", "1.0", "is '1.0', not an integer"),
        ("integer", "1_000", "not an integer"),
        ("integer", "٣", "not an integer"),
        ("integer", "9" * 5_000, "not an integer"),
        ("integer", True, "is True, not an integer"),
        ("integer", 1.0, "is 1.0, not an integer"),
        ("number", "nan", "is 'nan', not a finite number"),
        ("number", "inf", "finite"),
        ("number", "1_0", "finite"),
        ("number", "", "finite"),
        ("number", 10**400, "finite"),
        ("number", True, "finite"),
        ("texts", "a b", "is 'a b', not a list of texts"),
        ("texts", ["a", 1], "not a list of texts"),
        ("texts", ["\ud83d"], "surrogate"),
        ("any", None, "is null"),
        ("text", None, "is null"),
    ],
)
def test_values_that_do_not_fit(kind, value, reason):
    with pytest.raises(ValueError, match=f"field 'f' .*{reason}") as caught:
        Field("f", kind).read(value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 120


def test_names_keys_and_defaults():
    fields = as_fields({"text": "t", "label": Field("l", "integer", default=-1)})
    assert take_fields({"t": "x", "l": 3, "other": 1}, fields) == {"text": "x", "label": 3}
    assert take_fields({"t": "x"}, fields) == {"text": "x", "label": -1}
    with pytest.raises(ValueError, match="has no field 't'; its fields: 'l'"):
        take_fields({"l": 3}, fields)
    assert as_fields(["a"]) == {"a": Field("a")}


def test_lists_of_labels_come_as_lists_or_as_text():
    read = Field("f", "labels").read
    assert read(["a", 2]) == ["a", 2]
    assert read("a, b") == ["a", "b"] and read("a") == ["a"] and read(" ") == read([]) == []
    for value, reason in (("a,,b", "nothing between two commas"), (3, "not a list"), ([None], "")):
        with pytest.raises(ValueError, match=f"field 'f' is .*{reason}"):
            read(value)


def test_blank_text_may_be_refused():
    assert Field("f").read(" ") == " "
    for kind in ("text", "label"):
        with pytest.raises(ValueError, match="field 'f' is blank"):
            Field("f", kind, blank=False).read(" \u3000\n")


def test_a_kind_is_one_that_there_is():
    with pytest.raises(InputError, match="field 'f' must be one of text, .* Received: 'txet'"):
        Field("f", "txet")
