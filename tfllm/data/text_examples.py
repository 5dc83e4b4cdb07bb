"""Documents as examples for a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["text_examples"]


def text_examples(documents: Iterable[str]) -> Any:
    """Give each document as an example `{"text": document}`.

    Args:
        documents: can be read again. What has a method `digest()` keeps it, which spares reading
            the text to recognise it.
    """
    digest = getattr(documents, "digest", None)
    return _Examples(documents) if digest is None else _Recognised(documents)


class _Examples:
    def __init__(self, documents: Any) -> None:
        self._documents = documents

    def __iter__(self) -> Iterator[dict[str, str]]:
        return ({"text": document} for document in self._documents)


class _Recognised(_Examples):
    def digest(self) -> str:
        return self._documents.digest()
