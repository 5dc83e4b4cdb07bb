import gzip

import pytest

from tfllm.data.cleaning import Cleaner, ExactDuplicates, Length
from tfllm.data.corpus import read_corpus
from tfllm.errors import InputError


def test_python_documentation_is_english_and_has_no_paragraph_twice():
    corpus = read_corpus(())
    documents = [*corpus.train, *corpus.validation]
    assert corpus.name == "pydoc"
    assert sum(map(len, documents)) > 1_000_000
    assert any("dictionary" in document for document in corpus.validation)
    paragraphs = [p.strip() for document in documents for p in document.split("\n\n")]
    assert len(paragraphs) == len(set(paragraphs))
    held_out = sum(map(len, corpus.validation)) / sum(map(len, documents))
    assert 0.02 < held_out < 0.15


def test_files_by_part(tmp_path):
    for name in ("train", "held", "test"):
        (tmp_path / f"{name}.txt").write_text(f"{name} one\n\n{name} two\n")
    paths = [[str(tmp_path / f"{name}.txt")] for name in ("train", "held", "test")]
    corpus = read_corpus(*paths, unit="blank_line")
    assert corpus.name == "train"
    assert list(corpus.train) == list(corpus.train) == ["train one", "train two"]
    assert corpus.validation == ["held one", "held two"]
    assert corpus.test == ["test one", "test two"]


def test_prompts_and_how_they_go_on(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").write_text("one two three four five six")
    corpus = read_corpus([str(tmp_path / "a.txt")], [str(tmp_path / "b.txt")])
    (first, second, _) = corpus.prompts(3)
    assert first == ("one two", " three four five si"[: len(first[1])])
    assert second[0] != first[0] and second[0] in corpus.validation[0]


@pytest.mark.parametrize("flag", ["--train", "--validation"])
def test_white_space_alone_is_no_text(tmp_path, flag):
    (tmp_path / "blank.txt").write_text(" \n\n\t")
    (tmp_path / "good.txt").write_text("words")
    names = ["blank.txt", "good.txt"] if flag == "--train" else ["good.txt", "blank.txt"]
    with pytest.raises(InputError, match=f"{flag} .*white space"):
        read_corpus(*([str(tmp_path / name)] for name in names))


def test_packed_files(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    corpus = read_corpus([str(tmp_path / "a.txt.gz")], [str(tmp_path / "a.txt.gz")], unit="line")
    assert corpus.name == "a" and list(corpus.train) == corpus.validation == ["one", "two"]


def test_training_documents_are_cleaned_before_some_are_held_out(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join([*(f"document {i}" for i in range(50)), "x", *["twin"] * 9]))
    cleaner = Cleaner([Length(least_characters=2), ExactDuplicates()])
    corpus = read_corpus([str(path)], unit="line", validation_fraction=0.3, cleaner=cleaner)
    kept = [*corpus.train, *corpus.validation]
    assert sorted(kept) == sorted([*(f"document {i}" for i in range(50)), "twin"])
    assert cleaner.report()["exact_duplicates"]["removed"] == 8
    own = read_corpus([str(path)], [str(path)], [str(path)], unit="line", cleaner=cleaner)
    assert list(own.train) == list(own.train) and len(list(own.train)) == 51
    assert len(own.validation) == len(own.test) == 60


@pytest.mark.parametrize("own", [True, False])
def test_cleaning_that_leaves_nothing_is_told_from_blank_files(tmp_path, own):
    (tmp_path / "good.txt").write_text("words")
    good = str(tmp_path / "good.txt")
    with pytest.raises(InputError, match="--train .*good.txt: cleaning removed every document"):
        read_corpus([good], [good] * own, cleaner=Cleaner([Length(least_characters=99)]))
