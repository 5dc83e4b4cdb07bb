"""Readers: files → examples, plain dictionaries of named fields.

A reader streams, can be read again and again, and says of each row that it can't read in which file
and line it stands.
"""

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.beir import Beir
from tfllm.data.readers.conll import Conll
from tfllm.data.readers.csv_files import Csv
from tfllm.data.readers.field import Field
from tfllm.data.readers.html_pages import HtmlPages
from tfllm.data.readers.iob2 import to_iob2
from tfllm.data.readers.json_lines import JsonLines
from tfllm.data.readers.line_pairs import LinePairs
from tfllm.data.readers.parquet import Parquet
from tfllm.data.readers.plain_text import PlainText
from tfllm.data.readers.reader import Example, Reader
from tfllm.data.readers.squad import Squad
from tfllm.data.readers.squad_paragraphs import SquadParagraphs
from tfllm.data.readers.tfds_sets import Tfds
from tfllm.data.readers.tsv_files import Tsv

__all__ = [
    "BadRow",
    "Beir",
    "Conll",
    "Csv",
    "Example",
    "Field",
    "HtmlPages",
    "JsonLines",
    "LinePairs",
    "Parquet",
    "PlainText",
    "Reader",
    "Squad",
    "SquadParagraphs",
    "Tfds",
    "Tsv",
    "to_iob2",
]
