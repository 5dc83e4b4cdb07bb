import gzip

import pytest

from tfllm.data.readers import LinePairs
from tfllm.errors import InputError


def test_pairs_and_their_names(write):
    source = write("a.en", "one\u2028still one\r\ntwo")
    target = write("a.de.gz", gzip.compress(b"eins\rnoch\nzwei\n"))
    assert list(LinePairs(source, target)) == [
        {"source": "one\u2028still one", "target": "eins\rnoch"},
        {"source": "two", "target": "zwei"},
    ]
    named = LinePairs(source, target, source_name="en", target_name="de")
    assert [sorted(e) for e in named] == [["de", "en"]] * 2


def test_several_files_in_order(write, tmp_path):
    for name, text in (("1.en", "a\n"), ("2.en", "b\n"), ("1.de", "A\n"), ("2.de", "B\n")):
        write(name, text)
    read = LinePairs(f"{tmp_path}/*.en", f"{tmp_path}/*.de")
    assert [(e["source"], e["target"]) for e in read] == [("a", "A"), ("b", "B")]
    with pytest.raises(InputError, match="2 files of sources and 1 of targets"):
        LinePairs(f"{tmp_path}/*.en", tmp_path / "1.de")


@pytest.mark.parametrize(("text", "count"), [("a\n", "1"), ("a\nb\nc", "3"), ("a\nb\n\n", "3")])
def test_files_of_other_lengths_give_no_pair_at_all(write, text, count):
    source, target = write("a.en", "one\ntwo\n"), write("a.de", text)
    with pytest.raises(InputError, match=rf"a.en has 2 lines and \S*a.de has {count}, "):
        next(iter(LinePairs(source, target)))
    with pytest.raises(InputError, match=rf"a.de has {count} lines and \S*a.en has 2, "):
        next(iter(LinePairs(target, source)))


def test_blank_sides_are_bad_rows(write):
    source, target = write("a.en", "one\n \nthree\nfour\n"), write("a.de", "1\n2\n\n4\n")
    with pytest.raises(InputError, match=r"2 rows .*a.en:2 is blank .and so \S*a.de:3\)\."):
        list(LinePairs(source, target))
    read = LinePairs(source, target, on_error="skip")
    assert [e["target"] for e in read] == ["1", "4"] and read.skipped.count == 2


def test_faults_of_either_side(write):
    source, target = write("a.en", b"one\n\xff\n"), write("a.de", b"\0\nb\n")
    with pytest.raises(InputError, match=r"a.de:1 holds a NUL.*a.en:2 not UTF-8"):
        list(LinePairs(source, target))


def test_digest_tells_source_from_target(write):
    source, target = write("a.en", "a\n"), write("a.de", "b\n")
    assert LinePairs(source, target).digest() != LinePairs(target, source).digest()
