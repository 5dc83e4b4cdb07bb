"""Where a tokenizer puts its special tokens around one text or two."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import tokenizers

from tfllm.errors import InputError

__all__ = ["Piece", "SpecialTokenTemplate"]


class Piece(NamedTuple):
    """One part of a row: a special token, or a text's tokens."""

    text: int | None
    """0: the first text, 1: the second; None: a special token."""
    id: int
    """Of the special token."""
    token_type: int


class SpecialTokenTemplate(NamedTuple):
    """The parts of a row in order: BERT's pair is `[CLS]` A `[SEP]` B `[SEP]`, types 0 0 0 1 1."""

    single: tuple[Piece, ...]
    pair: tuple[Piece, ...]

    @classmethod
    def of(cls, fast: tokenizers.Tokenizer) -> SpecialTokenTemplate:
        """Read a tokenizer's post-processor.

        Raises:
            InputError: if it is of a kind that is not known here, or puts a text twice.
        """
        processor = json.loads(fast.to_str())["post_processor"] or {}
        template = cls((_text(0, 0),), (_text(0, 0), _text(1, 1)))
        for part in processor.get("processors", [processor]):
            template = _READERS.get(part.get("type"), _refuse)(part, template)
        for row, texts in ((template.single, [0]), (template.pair, [0, 1])):
            if sorted(piece.text for piece in row if piece.text is not None) != texts:
                raise InputError(
                    "the tokenizer's template must hold each text once. Received: "
                    f"{processor}. Give a template like '[CLS] $A [SEP] $B [SEP]'"
                )
        return template

    def added(self, *, pair: bool) -> int:
        """Special tokens of a row."""
        return sum(piece.text is None for piece in (self.pair if pair else self.single))


def _text(which: int, token_type: int) -> Piece:
    return Piece(which, -1, token_type)


def _special(token_id: int, token_type: int = 0) -> Piece:
    return Piece(None, token_id, token_type)


def _unchanged(part: dict[str, Any], template: SpecialTokenTemplate) -> SpecialTokenTemplate:
    return template


def _bert(part: dict[str, Any], _: SpecialTokenTemplate) -> SpecialTokenTemplate:
    first, sep = part["cls"][1], part["sep"][1]
    single = (_special(first), _text(0, 0), _special(sep))
    return SpecialTokenTemplate(single, (*single, _text(1, 1), _special(sep, 1)))


def _roberta(part: dict[str, Any], _: SpecialTokenTemplate) -> SpecialTokenTemplate:
    first, sep = part["cls"][1], part["sep"][1]
    single = (_special(first), _text(0, 0), _special(sep))
    return SpecialTokenTemplate(single, (*single, _special(sep), _text(1, 0), _special(sep)))


def _template(part: dict[str, Any], _: SpecialTokenTemplate) -> SpecialTokenTemplate:
    return SpecialTokenTemplate(
        *(tuple(_pieces(part[row], part["special_tokens"])) for row in ("single", "pair"))
    )


def _pieces(entries: list[dict[str, Any]], specials: dict[str, Any]) -> list[Piece]:
    pieces: list[Piece] = []
    for entry in entries:
        if "Sequence" in entry:
            found = entry["Sequence"]
            pieces.append(_text("AB".index(found["id"]), found["type_id"]))
        else:
            found = entry["SpecialToken"]
            ids = specials[found["id"]]["ids"]
            pieces += [_special(token_id, found["type_id"]) for token_id in ids]
    return pieces


def _refuse(part: dict[str, Any], _: SpecialTokenTemplate) -> SpecialTokenTemplate:
    raise InputError(
        f"the post-processor {part.get('type')!r} is not supported. Use TemplateProcessing"
    )


_READERS = {
    None: _unchanged,
    "ByteLevel": _unchanged,
    "BertProcessing": _bert,
    "RobertaProcessing": _roberta,
    "TemplateProcessing": _template,
}
