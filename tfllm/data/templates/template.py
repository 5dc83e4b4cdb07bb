"""Format strings over an example's fields, filled in Python and in a graph."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tfllm.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Template"]


@dataclass(frozen=True)
class Template:
    r"""A format string of plain `{name}` fields; `{{` and `}}` are braces.

    Nothing but names: a format string that could look into objects, `{article.__class__}`, would
    run what a file says.

    Attributes:
        text: the format string.

    Raises:
        InputError: if the braces don't match, or a field is more than a name.

    Example:
        >>> Template("{article}\nTL;DR:").fill({"article": "It rained."})
        'It rained.\nTL;DR:'
    """

    text: str

    def __post_init__(self) -> None:
        """Parse it, so that a wrong one is refused at once."""
        _ = self.parts

    @classmethod
    def of_flag(cls, text: str, flag: str) -> Template:
        """Make one of a flag's value.

        Raises:
            InputError: naming the flag.
        """
        try:
            return cls(text)
        except InputError as error:
            raise InputError(f"{flag}: {error}") from error

    @classmethod
    def from_config(cls, config: str) -> Template:
        """Make one of what `to_config` gave."""
        return cls(config)

    def to_config(self) -> str:
        """Give what JSON can hold of it: the format string."""
        return self.text

    @cached_property
    def parts(self) -> tuple[tuple[str, str | None], ...]:
        """Literal text and the field after it, in order; the last field may be None."""
        try:
            parsed = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise InputError(
                f"the template {self.text!r} can't be read: {error}. A brace that is text is "
                "written twice, {{ or }}"
            ) from None
        for _, name, spec, conversion in parsed:
            if name is not None and (spec or conversion or not _is_plain(name)):
                tail = f"!{conversion}" * bool(conversion) + f":{spec}" * bool(spec)
                raise InputError(
                    f"the template {self.text!r} has the field '{{{name}{tail}}}', and fields are "
                    "plain names: {article}. A brace that is text is written twice, {{ or }}"
                )
        return tuple((literal, name) for literal, name, _, _ in parsed)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of its fields, each once, in the order in which they stand."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name is not None))

    def fill(self, example: Mapping[str, Any]) -> str:
        """Put an example's fields in their places.

        Raises:
            InputError: if the example lacks one, or it is no text.
        """
        filled = []
        for literal, name in self.parts:
            filled.append(literal)
            if name is not None:
                filled.append(_text_of(example, name))
        return "".join(filled)

    def fill_in_graph(self, fields: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Do the same to batches.

        Args:
            fields: name → `<string>[batch]`.

        Returns:
            `<string>[batch]`, the bytes that `fill` gives as UTF-8.
        """
        import tensorflow as tf

        some = next(iter(fields.values()))
        pieces = [tf.zeros_like(some)]  # gives the shape where there is no field
        for literal, name in self.parts:
            pieces.append(tf.constant(literal))
            if name is not None:
                pieces.append(fields[name])
        return tf.strings.join(pieces)


def _is_plain(name: str) -> bool:
    return bool(name) and not re.search(r"[.\[\]!:{}]", name)


def _text_of(example: Mapping[str, Any], name: str) -> str:
    value = example.get(name)
    if isinstance(value, str):
        return value
    found = f"Its fields: {', '.join(example)}" if value is None else f"Received: {value!r:.60}"
    raise InputError(f"an example has no text in field {name!r}, which the template names. {found}")
