"""Prompts with completions, out of files in one call."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from tfllm.data.readers.field import Field
from tfllm.data.readers.line_pairs import LinePairs
from tfllm.data.readers.reader import OnError, Reader
from tfllm.data.showcase import Showcase
from tfllm.data.tasks.files import is_tfds, open_by_suffix
from tfllm.data.tasks.parts import Parts, open_parts
from tfllm.data.templates.pair_template import PairTemplate
from tfllm.data.text_files import find_files
from tfllm.errors import InputError

__all__ = ["read_completions"]

_ALIGNED = ("source", "target")


def read_completions(
    train: Sequence[str] = (),
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    *,
    template: PairTemplate,
    columns: Sequence[str] = (),
    quoting: bool | None = None,
    validation_fraction: float = 0.05,
    on_error: OnError = "refuse",
) -> Parts:
    """Open examples with the fields that a template names, or without any those tfllm brings.

    Fields are text; those of the completion must not be blank.

    Args:
        train: paths and globs of one suffix, see `open_by_suffix`; one data set of TFDS; or two
            files aligned line by line, `train.en:train.de`, whose fields are `source` and `target`.
        validation: the same; without any, training examples are split by a hash of their prompts'
            fields, so that no prompt is on both sides.
        test: the same.
        template: names the fields.
        columns: names of a table's columns; none: the first row of each file holds them.
        quoting: whether quotes around a cell are its shell; None: in CSV yes, else no.
        validation_fraction: share of the examples that the hash deals to validation.
        on_error: whether a row that can't be read ends reading or is left out.

    Raises:
        InputError: if a file can't be found or read, or has no such field.
    """
    read, learnt = "--prompt_template", "--completion_template"
    fields = {name: Field(name, flag=read) for name in template.prompt.fields}
    fields |= {name: Field(name, blank=False, flag=learnt) for name in template.completion.fields}

    def open_part(patterns: Sequence[str], flag: str) -> Reader:
        pairs = [_sides(pattern) for pattern in patterns]
        if any(pairs) and not is_tfds(patterns):
            return _open_aligned(patterns, flag, template, on_error)
        return open_by_suffix(
            patterns, flag, fields, columns=columns, quoting=quoting, on_error=on_error
        )

    if not train:
        _check_fields(template, _ALIGNED, "the sentences that tfllm brings have")
    return open_parts(
        open_part,
        train,
        validation,
        test,
        showcase=Showcase("rewriting"),
        split_by=template.prompt.fields,
        validation_fraction=validation_fraction,
    )


def _open_aligned(
    patterns: Sequence[str], flag: str, template: PairTemplate, on_error: OnError
) -> LinePairs:
    sides = [_sides(pattern) for pattern in patterns]
    for pattern, pair in zip(patterns, sides, strict=True):
        if pair is None:
            raise InputError(
                f"{flag} {pattern!r} is one file among pairs of files. Give a pair, as in "
                "train.en:train.de"
            )
    _check_fields(template, _ALIGNED, f"{flag} {patterns[0]}: lines of two files have")
    pairs = [pair for pair in sides if pair]
    for pattern, pair in zip(patterns, pairs, strict=True):
        if not all(pair):
            raise InputError(
                f"{flag} {pattern!r} lacks the file {'after' if pair[0] else 'before'} the colon. "
                "Give two, as in train.en:train.de"
            )
    sources, targets = zip(*pairs, strict=True)
    for side in (sources, targets):
        find_files(side, flag)
    try:
        return LinePairs(list(sources), list(targets), on_error=on_error)
    except InputError as error:
        raise InputError(f"{flag} {error}") from error


def _sides(pattern: str) -> tuple[str, str] | None:
    """The two files that `a:b` names; None where it names one, or a data set."""
    first, colon, second = pattern.partition(":")
    if not colon or pattern.startswith("tfds:") or os.path.exists(pattern) or glob.glob(pattern):
        return None
    return first, second


def _check_fields(template: PairTemplate, known: Sequence[str], where: str) -> None:
    for name in template.fields:
        if name not in known:
            raise InputError(
                f"{where} the fields {' and '.join(known)}. Received: a template with {{{name}}}"
            )
