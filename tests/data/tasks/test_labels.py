import json

import pytest

from tfllm.data.readers import Conll, Field, JsonLines
from tfllm.data.tasks import check_labels, label_counts, label_names, tag_names
from tfllm.errors import InputError


@pytest.fixture
def labelled(tmp_path):
    def read(labels: list, name: str = "a.jsonl") -> JsonLines:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"y": label}) + "\n" for label in labels))
        return JsonLines(path, {"label": Field("y", "any")})

    return read


def test_labels_in_natural_order(labelled):
    found = label_counts(labelled(["10", 2, "b", "2", "a10", "a9", "B", 1.5]))
    assert list(found) == ["1.5", "2", "10", "B", "a9", "a10", "b"] and found["2"] == 2
    names = label_names(labelled([["x", "y"], [], ["x"]]))
    assert names == ("x", "y")
    assert label_names(labelled(["01", "1", "1", "01"])) == ("01", "1")
    assert label_names(labelled(["1", "01", "1", "01"])) == ("01", "1")


def test_labels_that_teach_nothing(labelled):
    with pytest.raises(
        InputError, match="all 3 examples, the first at .*a.jsonl:1, have the label 'x' alone"
    ):
        label_names(labelled(["x"] * 3))
    with pytest.raises(InputError, match="have no label in field 'label'"):
        label_names(labelled([[], []]))
    with pytest.raises(InputError, match="1,500 different labels.*ask for regression"):
        label_names(labelled([i / 7 for i in range(1500)]))
    assert len(label_names(labelled(list(range(1500)) * 2))) == 1500


def test_labels_that_training_lacks(labelled):
    check_labels(labelled(["a", "b", "a"]), ("a", "b", "c"))
    check_labels(labelled([["a"], []]), ("a", "b"))
    part = labelled(["a", "z", "b", "y"])
    with pytest.raises(InputError) as caught:
        check_labels(part, ("a", "b"), part="--test")
    message = str(caught.value)
    assert message.startswith(f"--test {part.files[0]}:2 has the label 'z' in field 'label', which")
    assert "(a, b); 2 examples have such labels" in message and "\n" not in message
    with pytest.raises(InputError, match=r"a.jsonl:2 has the label 'z'.*\(a, b\)\. Mend it"):
        check_labels(labelled(["a", ["b", "z"]]), ("a", "b"))


def test_tags_of_spans_and_of_words(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("Kim B-PER\nran O\n\nOslo B-LOC\nfjord I-LOC\n")
    assert tag_names(Conll(path)) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    path.write_text("Kim NN\nran VB\n\nOslo NN\n")
    words = Conll(path, scheme=None)
    assert tag_names(words, spans=False) == ("NN", "VB")
    with pytest.raises(InputError, match="a.conll:4 has the label 'NN' in field 'tags'"):
        check_labels(Conll(_without_first(tmp_path), scheme=None), ("VB",), field="tags")


def _without_first(folder):
    path = folder / "a.conll"
    path.write_text("ran VB\nso VB\n\nOslo NN\n")
    return path
