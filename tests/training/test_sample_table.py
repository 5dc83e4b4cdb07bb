"""Tables are read as TensorBoard shows them: through its own Markdown and its own sanitizer."""

import warnings
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from tfllm.training.sample_table import sample_table

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what TensorBoard brings along
    from tensorboard.plugin_util import markdown_to_safe_html


class Cells(HTMLParser):
    """Texts of a table's cells by row; a line break within one is a newline."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._open = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        self._open = self._open or tag in ("td", "th")
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "br":
            self.rows[-1][-1] += "\n"

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.rows[-1][-1] += data


def shown(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.strip().splitlines()]
    return "\n".join(lines)


texts = st.text(st.sampled_from('ab|*_`#<>&\\[](){}!-+.~:1 \t\n\r\x0b\x85\u2028我é\x00\x02\x7f"'))


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_every_text_is_shown_as_it_is(rows):
    cells = Cells(markdown_to_safe_html(sample_table(["prompt", "generated"], rows)))
    assert cells.tags <= {"table", "thead", "tbody", "tr", "th", "td", "br"}
    plain = [[text.translate({0: None, 2: None, 127: None}) for text in row] for row in rows]
    assert cells.rows == [["prompt", "generated"], *([shown(t) for t in row] for row in plain)]


def test_of_a_long_text_the_end_is_shown():
    cells = Cells(markdown_to_safe_html(sample_table(["a"], [["x" * 10_000 + "TL;DR:"]])))
    assert cells.rows[1] == ["…" + "x" * 594 + "TL;DR:"]
