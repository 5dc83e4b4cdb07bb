"""What a `tokenizers` configuration asks of byte-level BPE, checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from tfllm.errors import InputError
from tfllm.text.added_token import AddedToken

__all__ = ["ByteLevelConfig", "byte_of_letter"]

# Post-processors that add special tokens and leave offsets alone.
_INERT_PROCESSORS = ("TemplateProcessing", "BertProcessing")
_TRIMMING_PROCESSORS = ("ByteLevel", "RobertaProcessing")
# Bytes that no UTF-8 text holds; a vocabulary can do without them.
_NEVER_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}


@cache
def byte_of_letter() -> dict[str, int]:
    """Map each of the 256 letters in which vocabularies spell bytes to its byte.

    Visible Latin-1 characters stand for themselves; the other bytes, in order, are the characters
    from U+0100. So `Ġ` (U+0120) is the space, 0x20.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in set(visible)]
    letters = {chr(b): b for b in visible}
    letters.update({chr(256 + i): b for i, b in enumerate(hidden)})
    return letters


@dataclass(frozen=True)
class ByteLevelConfig:
    """The parts of a `tokenizers` configuration that decide ids and offsets."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    ignore_merges: bool
    added_tokens: list[AddedToken]
    add_prefix_space: bool
    trim_offsets: bool
    """Whether offsets leave out the spaces at a token's ends."""
    trim_keeps_first_space: bool
    """Whether such trimming spares the only space of a text's first token."""

    @classmethod
    def from_json(cls, text: str) -> ByteLevelConfig:
        """Read what `tokenizers.Tokenizer.to_str` writes.

        Raises:
            InputError: the tokenizer isn't byte-level BPE, or it asks for something that the
                graph doesn't do.
        """
        state = _parse(text)
        model, pre_tokenizer = state["model"], state["pre_tokenizer"]
        _check_model(model)
        _check_pipeline(state)
        processor = _trimming_processor(state["post_processor"])
        added = [_added_token(entry) for entry in state["added_tokens"]]
        _check_added_tokens(added, trim_offsets=bool(processor["trim_offsets"]))
        return cls(
            vocabulary=model["vocab"],
            merges=[_merge(entry) for entry in model["merges"]],
            ignore_merges=bool(model.get("ignore_merges")),
            added_tokens=added,
            add_prefix_space=pre_tokenizer["add_prefix_space"],
            trim_offsets=processor["trim_offsets"],
            trim_keeps_first_space=processor["add_prefix_space"],
        )

    @property
    def vocabulary_size(self) -> int:
        """One more than the highest id."""
        ids = [*self.vocabulary.values(), *(token.id for token in self.added_tokens)]
        return max(ids) + 1

    def bytes_of_ids(self) -> list[bytes]:
        """Return the bytes that each id decodes to; none for an id that no token has."""
        letters = byte_of_letter()
        result = [b""] * self.vocabulary_size
        spelt = {i: content for content, i in self.vocabulary.items()}
        spelt.update({token.id: token.content for token in self.added_tokens})
        for token_id, content in spelt.items():
            # A token with any other character is its own text, as in tokenizers' decoder.
            if all(letter in letters for letter in content):
                result[token_id] = bytes(letters[letter] for letter in content)
            else:
                result[token_id] = content.encode("utf-8")
        return result


def _parse(text: str) -> dict[str, Any]:
    try:
        state = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"The tokenizer's JSON can't be read: {error}.") from None
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise InputError("The tokenizer's JSON has no `model`: give what tokenizers wrote.")
    defaults = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    return {**defaults, "added_tokens": [], **state}


def _refuse(what: str, received: object, mend: str) -> InputError:
    return InputError(f"{what} is not supported. Received: {received!r}. {mend}")


def _check_model(model: dict[str, Any]) -> None:
    if model.get("type") != "BPE":
        raise _refuse("The tokenizer's model type", model.get("type"), "Give a byte-level BPE.")
    if model.get("dropout"):
        raise _refuse("BPE `dropout`", model["dropout"], "Set it to null: ids must be certain.")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise _refuse(f"BPE `{name}`", model[name], "Byte-level vocabularies have none.")
    letters = byte_of_letter()
    missing = [
        f"0x{byte:02X}"
        for letter, byte in letters.items()
        if letter not in model["vocab"] and byte not in _NEVER_IN_UTF8
    ]
    if missing:
        raise InputError(
            f"The vocabulary lacks {len(missing)} of the bytes that UTF-8 uses, such as"
            f" {missing[0]}: train it with the whole byte alphabet."
        )


def _check_pipeline(state: dict[str, Any]) -> None:
    if state["normalizer"] is not None:
        kind = state["normalizer"].get("type")
        raise _refuse("A normalizer before byte-level BPE", kind, "Remove it.")
    pre_tokenizer = state["pre_tokenizer"] or {}
    if pre_tokenizer.get("type") != "ByteLevel":
        kind = pre_tokenizer.get("type")
        raise _refuse("A pre-tokenizer other than ByteLevel", kind, "Use GPT-2's or RoBERTa's.")
    if not pre_tokenizer.get("use_regex", True):
        raise _refuse("ByteLevel with `use_regex` off", False, "Set it to true.")
    decoder = state["decoder"] or {}
    if decoder.get("type") != "ByteLevel":
        raise _refuse("A decoder other than ByteLevel", decoder.get("type"), "Use ByteLevel.")


def _trimming_processor(post_processor: dict[str, Any] | None) -> dict[str, Any]:
    """Find the post-processor that may trim offsets."""
    found = {"trim_offsets": False, "add_prefix_space": False}
    if post_processor is None:
        return found
    parts = post_processor.get("processors", [post_processor])
    for part in parts:
        kind = part.get("type")
        if kind in _TRIMMING_PROCESSORS:
            if found["trim_offsets"]:
                raise _refuse("More than one post-processor that trims offsets", kind, "Keep one.")
            found = part
        elif kind not in _INERT_PROCESSORS:
            raise _refuse("This post-processor", kind, "Use ByteLevel or RobertaProcessing.")
    return found


def _added_token(entry: dict[str, Any]) -> AddedToken:
    if entry.get("single_word"):
        mend = "Set `single_word` to false."
        raise _refuse("An added token with `single_word`", entry["content"], mend)
    names = ("id", "content", "special", "lstrip", "rstrip", "normalized")
    return AddedToken(**{name: entry[name] for name in names})


def _check_added_tokens(added: list[AddedToken], *, trim_offsets: bool) -> None:
    strips = any(token.lstrip or token.rstrip for token in added)
    for token in added:
        if strips and token.content != token.content.strip():
            mend = "Drop the space, or `lstrip` and `rstrip` of every added token."
            raise _refuse("An added token with a space at its end", token.content, mend)
        if trim_offsets and token.content.strip("Ġ") != token.content:
            raise _refuse("An added token that starts or ends with Ġ", token.content, "Rename it.")


def _merge(entry: str | list[str]) -> tuple[str, str]:
    # Old files write "a b", new ones ["a", "b"].
    left, right = entry.split(" ") if isinstance(entry, str) else entry
    return left, right
