"""Taking named fields out of examples, and saying which example lacks one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfllm.errors import InputError

__all__ = ["listed", "shown", "texts_of", "words_of"]

_SHOWN_CHARACTERS = 80
_LISTED = 20


def texts_of(examples: Sequence[Mapping[str, Any]], field: str) -> list[str]:
    """Give one field of all examples.

    Raises:
        InputError: if it is missing somewhere, is no string, or holds half a surrogate pair,
            which no UTF-8 can say.
    """
    texts = []
    for example in examples:
        text = example.get(field)
        if not isinstance(text, str):
            found = f"Its fields: {', '.join(example)}" if text is None else f"Received: {text!r}"
            raise InputError(
                f"an example has no text in field {field!r}: {shown(example)}. {found}"
            )
        texts.append(text)
    _check_utf8(texts, field)
    return texts


def words_of(example: Mapping[str, Any], field: str) -> list[str]:
    """Give one field of an example, a list of texts.

    Raises:
        InputError: if it is missing, no such list, or holds half a surrogate pair.
    """
    words = example.get(field)
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        found = f"Its fields: {', '.join(example)}" if words is None else f"Received: {words!r:.80}"
        raise InputError(
            f"an example has no list of texts in field {field!r}: {shown(example)}. {found}"
        )
    _check_utf8(list(words), field)
    return list(words)


def shown(example: Mapping[str, Any]) -> str:
    """The beginning of an example, in one line."""
    text = repr(dict(example))
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def listed(names: Sequence[str]) -> str:
    """Names in one line, the first of them where there are many."""
    more = f" … ({len(names)} in all)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _check_utf8(texts: list[str], field: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the field {field!r} of an example is no Unicode text: half a surrogate pair at "
                f"character {error.start} of {text[:_SHOWN_CHARACTERS]!r}. Mend or drop it"
            ) from None
