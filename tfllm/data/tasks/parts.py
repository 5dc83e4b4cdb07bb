"""The examples that a task's model trains on, is validated with and is tested on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tfllm.data.readers.reader import Reader
from tfllm.data.showcase import Showcase
from tfllm.data.tasks.split import split_examples
from tfllm.errors import InputError

__all__ = ["Parts", "open_parts"]


@dataclass(frozen=True)
class Parts:
    """Examples in three parts, read anew in each pass.

    Attributes:
        name: a short one, of letters, digits, `.`, `_` and `-`.
        train: to learn from.
        validation: held out.
        test: scored once, at the end, or None.
    """

    name: str
    train: Reader
    validation: Reader
    test: Reader | None

    def named(self) -> list[tuple[str, Reader]]:
        """The parts that there are, each with its flag."""
        parts = [("--train", self.train), ("--validation", self.validation), ("--test", self.test)]
        return [(flag, reader) for flag, reader in parts if reader is not None]


def open_parts(
    open_part: Callable[[Sequence[str], str], Reader],
    train: Sequence[str],
    validation: Sequence[str],
    test: Sequence[str],
    *,
    showcase: Showcase,
    split_by: Sequence[str],
    validation_fraction: float,
) -> Parts:
    """Open the parts of a task's data.

    Args:
        open_part: makes a reader of paths, globs or a data set of TFDS, and their flag.
        train: as `open_part` takes them; none: the showcase.
        validation: the same; none: training examples are split by a hash.
        test: the same; may be none.
        showcase: examples for who gives no data.
        split_by: fields whose hash decides an example's side: equal ones are never on both.
        validation_fraction: share of the examples for validation.

    Raises:
        InputError: if a file can't be found, or a part's first example can't be read.
    """
    if not train and (validation or test):
        flag = "--validation" if validation else "--test"
        raise InputError(f"{flag} is given without --train. Give the data to learn from as well")
    source: Reader = open_part(train, "--train") if train else showcase
    _check_first(source, "--train")
    tested = open_part(test, "--test") if test else None
    if tested is not None:
        _check_first(tested, "--test")
    if validation:
        held_out = open_part(validation, "--validation")
        _check_first(held_out, "--validation")
        return Parts(source.name, source, held_out, tested)
    try:
        learnt, held_out = split_examples(source, tuple(split_by), validation_fraction)
    except InputError as error:
        raise InputError(f"--train {error}" if train else str(error)) from error
    return Parts(source.name, learnt, held_out, tested)


def _check_first(reader: Reader, flag: str) -> None:
    """See that examples can be read, so that a missing column is refused at once."""
    try:
        next(iter(reader))
    except InputError as error:
        hint = " (test data is scored: it needs labels)" if flag == "--test" else ""
        raise InputError(f"{flag} {error}{hint}") from error
