"""Texts and pairs of texts with labels, out of files in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from tfllm.data.readers.field import Field, Kind, as_fields
from tfllm.data.readers.reader import OnError, Reader
from tfllm.data.showcase import Showcase, ShowcaseName
from tfllm.data.tasks.files import open_by_suffix
from tfllm.data.tasks.parts import Parts, open_parts

__all__ = ["LabelKind", "read_examples", "text_fields"]

LabelKind = Literal["single_label", "multi_label", "regression"]
_KINDS: dict[LabelKind | None, Kind] = {
    "single_label": "label",
    "multi_label": "labels",
    "regression": "number",
}


def text_fields(
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str | None = "label",
    kind: LabelKind = "single_label",
) -> dict[str, Field]:
    """Name the fields of texts with labels: `text`, `text_pair` and `label`, none of them blank.

    Args:
        text: column, key or feature of the text.
        text_pair: of the second text, or None.
        label: of the label, or None.
        kind: what a label is: a name, a list of names, or a number.
    """
    fields = {"text": Field(text, blank=False)}
    if text_pair is not None:
        fields["text_pair"] = Field(text_pair, blank=False)
    if label is not None:
        fields["label"] = Field(label, _KINDS[kind], blank=kind == "multi_label")
    return fields


def read_examples(
    train: Sequence[str] = (),
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    fields: Mapping[str, Field],
    columns: Sequence[str] = (),
    quoting: bool | None = None,
    showcase: ShowcaseName = "sentiment",
    validation_fraction: float = 0.05,
    on_error: OnError = "refuse",
) -> Parts:
    """Open labelled examples, or without any those that tfllm brings.

    Args:
        train: paths and globs of one suffix, see `open_by_suffix`, or one data set of TFDS alone,
            `tfds:name/config`, whose split is the part's name unless it is given,
            `tfds:name/config@train[:90%]`.
        validation: the same; without any, training examples are split by a hash of their texts.
        test: the same.
        fields: name in the example → `Field`; `text_fields` makes them.
        columns: names of a table's columns; none: the first row of each file holds them.
        quoting: whether quotes around a cell are its shell; None: in CSV yes, else no.
        showcase: which examples tfllm brings where `train` is empty.
        validation_fraction: share of the examples that the hash deals to validation.
        on_error: whether a row that can't be read, or is blank, ends reading or is left out.

    Raises:
        InputError: if a file can't be found or read, or has no such column.
    """

    def open_part(patterns: Sequence[str], flag: str) -> Reader:
        return open_by_suffix(
            patterns, flag, fields, columns=columns, quoting=quoting, on_error=on_error
        )

    return open_parts(
        open_part,
        train,
        validation,
        test,
        showcase=Showcase(showcase),
        split_by=[n for n, field in as_fields(fields).items() if field.kind in ("text", "texts")],
        validation_fraction=validation_fraction,
    )
