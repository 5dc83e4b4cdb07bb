"""Reading a SentencePiece model file, `spiece.model`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfllm.errors import InputError

__all__ = ["CONTROL", "USER_DEFINED", "ModelFile", "ModelPiece"]

CONTROL, USER_DEFINED = 3, 4
"""Kinds of pieces that are looked for before any others are."""

# Protocol buffers: how long a field is.
_VARIABLE, _MEASURED, _FIXED = 0, 2, {1: 8, 5: 4}
# Numbers of fields in sentencepiece_model.proto.
_PIECES, _TRAINING, _NORMALIZATION = 1, 2, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_KIND = 1, 2, 3
_MODEL_TYPE, _BYTE_FALLBACK, _UNKNOWN_ID, _UNKNOWN_PIECE = 3, 35, 40, 45
_CHARSMAP = 2
_NORMAL, _UNIGRAM, _BPE = 1, 1, 2


@dataclass(frozen=True)
class ModelPiece:
    """One entry of the vocabulary."""

    text: str
    score: float
    kind: int
    """1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 a byte."""


@dataclass(frozen=True)
class ModelFile:
    """What a model file says, as far as Hugging Face heeds it."""

    pieces: list[ModelPiece]
    model_type: str
    """`unigram` or `bpe`."""
    unknown_id: int
    unknown_piece: str
    byte_fallback: bool
    charsmap: bytes
    """The table of normalizations; may be empty."""

    @classmethod
    def read(cls, path: Path) -> ModelFile:
        """Read a file.

        Raises:
            InputError: it can't be read, or isn't a model of unigrams or of byte pairs.
        """
        try:
            return cls._of(path.read_bytes(), path)
        except (OSError, ValueError, IndexError, struct.error, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} isn't a SentencePiece model: {error}. Get the file anew."
            ) from None

    @classmethod
    def _of(cls, content: bytes, path: Path) -> ModelFile:
        fields = list(_fields(content))
        pieces = [_piece(value) for number, value in fields if number == _PIECES]
        training = dict(_fields(_last(fields, _TRAINING)))
        normalization = dict(_fields(_last(fields, _NORMALIZATION)))
        if not pieces:
            raise ValueError("it holds no pieces")
        kind = training.get(_MODEL_TYPE, _UNIGRAM)
        if kind not in (_UNIGRAM, _BPE):
            raise InputError(
                f"{path} is a SentencePiece model of words or characters (model_type {kind})."
                " Supported: unigram (1) and bpe (2)."
            )
        return cls(
            pieces=pieces,
            model_type="unigram" if kind == _UNIGRAM else "bpe",
            unknown_id=training.get(_UNKNOWN_ID, 0),
            unknown_piece=training.get(_UNKNOWN_PIECE, b"<unk>").decode(),
            byte_fallback=bool(training.get(_BYTE_FALLBACK, 0)),
            charsmap=normalization.get(_CHARSMAP, b""),
        )


def _last(fields: list[tuple[int, Any]], number: int) -> bytes:
    return next((value for found, value in reversed(fields) if found == number), b"")


def _piece(content: bytes) -> ModelPiece:
    fields = dict(_fields(content))
    (score,) = struct.unpack("<f", fields.get(_PIECE_SCORE, bytes(4)))
    return ModelPiece(fields[_PIECE_TEXT].decode(), score, fields.get(_PIECE_KIND, _NORMAL))


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and value of each field of a message: a whole number, or else bytes."""
    place = 0
    while place < len(content):
        key, place = _number(content, place)
        if key & 7 == _VARIABLE:
            value, place = _number(content, place)
            yield key >> 3, value
            continue
        size, place = _size(content, place, key & 7)
        if place + size > len(content):
            raise ValueError("it was cut off")
        yield key >> 3, content[place : place + size]
        place += size


def _size(content: bytes, place: int, kind: int) -> tuple[int, int]:
    """Return how long a field is, and the place where it starts."""
    if kind == _MEASURED:
        return _number(content, place)
    if kind not in _FIXED:
        raise ValueError(f"byte {place} is damaged")
    return _FIXED[kind], place


def _number(content: bytes, place: int) -> tuple[int, int]:
    """Read seven bits a byte, lowest first; return the number and the place behind it."""
    value, shift = 0, 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
