"""Against a data set that TFDS itself writes to disk."""

import shutil

import numpy as np
import pytest

from tfllm.data.corpus import read_corpus
from tfllm.data.readers import Field, Tfds
from tfllm.data.readers.tfds_sets import split_tfds_name
from tfllm.data.tasks import read_examples, read_tagged_words, text_fields
from tfllm.errors import InputError

ROWS = 5


def row(i: int) -> dict:
    return {
        "sentence": f"a ü {i}",
        "label": i % 2 if i < 4 else -1,
        "score": i / 2,
        "tokens": ["x"] * i,
        "tags": [i % 2] * i,
        "answers": {"text": ["b"] * i, "answer_start": [3] * i},
        "grid": [[1, 2]],
    }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    pytest.importorskip("importlib_resources")  # TFDS writes with it
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    text = tfds.features.Text()
    features = tfds.features.FeaturesDict(
        {
            "sentence": text,
            "label": tfds.features.ClassLabel(names=["bad", "good"]),
            "score": np.float64,
            "tokens": tfds.features.Sequence(text),
            "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["O", "B-X"])),
            "answers": tfds.features.Sequence({"text": text, "answer_start": np.int32}),
            "grid": tfds.features.Sequence(tfds.features.Sequence(np.int32)),
        }
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        config="small",
        version="1.0.0",
        features=features,
        split_datasets={
            "train": [(i, row(i)) for i in range(ROWS)],
            "test": [(i, row(i)) for i in (3, 2)],
        },
        data_dir=folder,
        disable_shuffling=True,
    )
    return folder


def test_names_and_splits():
    assert split_tfds_name("tfds:glue/sst2", "train") == ("glue/sst2", "train")
    assert split_tfds_name("tfds:a/b:1.0.0@train[:9%]", "test") == ("a/b:1.0.0", "train[:9%]")


def test_features_come_as_plain_python(data_dir):
    fields = {
        "text": Field("sentence"),
        "label": Field("label", "label", default="?"),
        "score": Field("score", "number"),
        "tokens": Field("tokens", "texts"),
        "tags": Field("tags", "texts"),
        "answers": Field("answers", "any"),
    }
    read = Tfds("tfds:tiny/small", fields, "train[:4]", data_dir)
    for _ in range(2):
        examples = list(read)
        assert [e["text"] for e in examples] == ["a ü 0", "a ü 1", "a ü 2", "a ü 3"]
        assert examples[3] == {
            "text": "a ü 3",
            "label": "good",
            "score": 1.5,
            "tokens": ["x"] * 3,
            "tags": ["B-X"] * 3,
            "answers": {"text": ["b"] * 3, "answer_start": [3] * 3},
        }
        assert type(examples[3]["answers"]["answer_start"][0]) is int
    assert read.name == "tiny-small" and read.text_features() == ["sentence"]


def test_a_label_that_is_not_there_makes_a_bad_row(data_dir):
    read = Tfds("tiny/small", {"label": Field("label", "label")}, data_dir=data_dir)
    message = r"one row .*tfds:tiny/small/1.0.0@train:5 field 'label' is null"
    with pytest.raises(InputError, match=message):
        list(read)


def test_features_that_cannot_be_read(data_dir):
    with pytest.raises(InputError, match="5 rows .*feature 'grid' holds lists of lists"):
        list(Tfds("tiny/small", {"grid": Field("grid", "any")}, data_dir=data_dir))


@pytest.mark.parametrize(
    ("name", "fields", "split", "message"),
    [
        ("glue/sst2", ["text"], "train", r"not prepared in .*: tfds build glue/sst2 --data_dir="),
        ("tiny/large", ["text"], "train", r"tfds:tiny/large is not prepared"),
        ("bad name!", ["text"], "train", r"tfds:bad name! is not prepared .*Parsing"),
        ("tiny/small", ["text"], "train", r"has no feature 'text'. Name one of: 'answers', "),
        ("tiny/small", ["sentence"], "valid", r"no split 'valid'. Give one of: test, train, or"),
        ("tiny/small", ["sentence"], "train[:x]", r"no split 'train\[:x\]'"),
    ],
)
def test_data_sets_that_are_not_there(data_dir, name, fields, split, message):
    with pytest.raises(InputError, match=message) as caught:
        Tfds(name, fields, split, data_dir)
    assert "\n" not in str(caught.value)


def test_digest_follows_the_files_wherever_they_lie(data_dir, tmp_path):
    digest = Tfds("tiny/small", ["sentence"], "train", data_dir).digest()
    shutil.copytree(data_dir, tmp_path / "moved")
    assert Tfds("tiny/small", ["sentence"], "train", tmp_path / "moved").digest() == digest
    assert Tfds("tiny/small", ["sentence"], "test", data_dir).digest() != digest
    record = next((tmp_path / "moved").rglob("*train.tfrecord*"))
    record.write_bytes(record.read_bytes()[:-3])
    damaged = Tfds("tiny/small", ["sentence"], "train", tmp_path / "moved")
    assert damaged.digest() != digest
    with pytest.raises(InputError, match="tiny/small/1.0.0@train can't be read: .*build --over"):
        list(damaged)


def test_a_corpus_of_texts(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    corpus = read_corpus(["tfds:tiny/small"], ["tfds:tiny/small@test"], ["tfds:tiny/small"])
    assert corpus.name == "tiny-small"
    assert list(corpus.train) == [f"a ü {i}" for i in range(ROWS)] == list(corpus.train)
    assert list(corpus.validation) == list(corpus.test) == ["a ü 2", "a ü 3"]
    with pytest.raises(InputError, match="--validation tfds:tiny/small has no split 'validation'"):
        read_corpus(["tfds:tiny/small"], ["tfds:tiny/small"])
    with pytest.raises(InputError, match="--train tfds:nothing is not prepared"):
        read_corpus(["tfds:nothing"])
    with pytest.raises(InputError, match="--train 'tfds:tiny/small' is a data set of TFDS"):
        read_corpus(["tfds:tiny/small", "a.txt"])


def test_tasks_out_of_tfds(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    fields = text_fields(text="sentence")
    parts = read_examples(["tfds:tiny/small@train[:4]"], test=["tfds:tiny/small"], fields=fields)
    both = [*parts.train, *parts.validation]
    assert sorted(e["label"] for e in both) == ["bad", "bad", "good", "good"]
    assert [e["text"] for e in parts.test] == ["a ü 2", "a ü 3"]
    assert parts.test.place(1) == "tfds:tiny/small/1.0.0@test:2"
    with pytest.raises(InputError, match="--train tfds:tiny/small has no feature 'stars'"):
        read_examples(["tfds:tiny/small"], fields=text_fields(text="sentence", label="stars"))
    with pytest.raises(InputError, match="train:5 field 'label' is null"):
        read_examples(["tfds:tiny/small"], fields=fields)


def test_tags_out_of_tfds(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    source = ["tfds:tiny/small@train[2:]"]
    tagged = read_tagged_words(source, source)
    assert next(iter(tagged.train)) == {"tokens": ["x", "x"], "tags": ["O", "O"]}
    with pytest.raises(InputError, match="train:1 has no words"):
        read_tagged_words(["tfds:tiny/small"])
