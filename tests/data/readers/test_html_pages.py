import gzip
import sys

import pytest

from tfllm.data.readers import HtmlPages
from tfllm.errors import InputError

PAGE = """<html><head><meta charset="{charset}"><title>Site</title></head><body>
<nav><a href="/">Home</a> <a href="/shop">Shop</a></nav>
<article><h1>Über Brücken</h1>
<p>The oldest bridge of the town was built in 1320, and it still carries people every day.</p>
<p>Its arches span the river where the market once stood, as a chronicle of the town says.</p>
</article><footer>Copyright, imprint, cookies</footer></body></html>"""


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_main_text_without_menus(write, charset, pack):
    pytest.importorskip("trafilatura")
    page = write("a.html", pack(PAGE.format(charset=charset).encode(charset)))
    for _ in range(2):
        (example,) = HtmlPages(page)
        lines = example["text"].split("\n")
        assert lines[0] == "Über Brücken"
        assert [line[:10] for line in lines[1:]] == ["The oldest", "Its arches"]


def test_a_page_without_text_is_a_bad_row(write, tmp_path):
    pytest.importorskip("trafilatura")
    write("a.html", PAGE.format(charset="utf-8"))
    write("b.html", "<html><body></body></html>")
    with pytest.raises(InputError, match=r"b.html has no main text\. Mend"):
        list(HtmlPages(f"{tmp_path}/*.html"))
    read = HtmlPages(f"{tmp_path}/*.html", on_error="skip")
    assert len(list(read)) == 1 and read.skipped.count == 1


def test_the_extra_is_named_where_it_is_missing(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    message = r"needs trafilatura, which is not installed.*pip install 'tfllm\[html\]'"
    with pytest.raises(InputError, match=message):
        HtmlPages(write("a.html", PAGE))
