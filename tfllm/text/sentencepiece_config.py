"""What a `tokenizers` configuration asks of SentencePiece, checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from tfllm.errors import InputError
from tfllm.text.added_token import AddedToken

__all__ = ["SPACE_SIGN", "SentencePieceConfig"]

SPACE_SIGN = "▁"
"""What SentencePiece writes for a space, U+2581."""

# Post-processors that add special tokens and leave offsets alone.
_INERT_PROCESSORS = ("TemplateProcessing", "BertProcessing")
# An unknown code point scores 10 less than the worst piece. Where that is a gain, a row of unknown
# code points may beat a piece of the same text, and `tokenizers` then takes the piece's id for it.
_HIGHEST_WORST_SCORE = 10.0


@dataclass(frozen=True)
class SentencePieceConfig:
    """The parts of a `tokenizers` configuration that decide ids and offsets."""

    model: dict[str, Any]
    """The model as `tokenizers` writes it, Unigram or BPE."""
    pieces: list[tuple[str, float]]
    """Text and score of each id of the model; no scores matter to BPE."""
    unknown_id: int
    added_tokens: list[AddedToken]
    normalizer: dict[str, Any] | None
    splits_whitespace: bool
    """Whether words are split at whitespace of any kind, which is dropped, first of all."""
    prefix: str
    """Where a space is put in: before "always" each segment, the "first" of a text, or "never"."""
    splits_words: bool
    """Whether each space starts a word, or a segment is one word."""
    drops_first_space: bool
    """Whether decoding leaves out the spaces of the first token."""

    @classmethod
    def from_json(cls, text: str) -> SentencePieceConfig:
        """Read what `tokenizers.Tokenizer.to_str` writes.

        Raises:
            InputError: the tokenizer isn't SentencePiece, or it asks for something that the graph
                doesn't do.
        """
        state = _parse(text)
        pieces = _pieces(state["model"])
        splits_whitespace, metaspace = _pre_tokenizer(state["pre_tokenizer"])
        _check_post_processor(state["post_processor"])
        return cls(
            model=state["model"],
            pieces=pieces,
            unknown_id=_unknown_id(state["model"]),
            added_tokens=[_added_token(entry) for entry in state["added_tokens"]],
            normalizer=state["normalizer"],
            splits_whitespace=splits_whitespace,
            prefix=_prefix(metaspace),
            splits_words=metaspace.get("split", True),
            drops_first_space=_prefix(_decoder(state["decoder"])) != "never",
        )

    @property
    def is_unigram(self) -> bool:
        """Whether the model is Unigram, or else BPE."""
        return self.model["type"] == "Unigram"

    @property
    def vocabulary_size(self) -> int:
        """One more than the highest id."""
        return max([len(self.pieces) - 1, *(token.id for token in self.added_tokens)]) + 1


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


# -------------------------------------------------------------------- the model


def _pieces(model: dict[str, Any]) -> list[tuple[str, float]]:
    kind = model.get("type")
    if kind == "Unigram":
        pieces = [(text, float(score)) for text, score in model["vocab"]]
        _check_unigram(model, pieces)
    elif kind == "BPE":
        pieces = _bpe_pieces(model)
    else:
        raise _refuse("The tokenizer's model type", kind, "Give a SentencePiece: Unigram or BPE.")
    if any(not text for text, _ in pieces):
        raise InputError("The vocabulary has an empty piece: remove it.")
    return pieces


def _check_unigram(model: dict[str, Any], pieces: list[tuple[str, float]]) -> None:
    if model.get("unk_id") is None:
        raise InputError("The Unigram model has no `unk_id`, so unknown text has no id: name one.")
    if model.get("byte_fallback"):
        raise _refuse("Unigram `byte_fallback`", True, "Give a vocabulary that has <unk> instead.")
    if not all(math.isfinite(score) for _, score in pieces):
        raise InputError("The Unigram vocabulary has a score that is no number: train it anew.")
    worst = min(score for _, score in pieces)
    if worst >= _HIGHEST_WORST_SCORE:
        mend = "Scores are logarithms of probabilities, so they should be 0 or less."
        raise _refuse(f"A Unigram whose scores are all above {_HIGHEST_WORST_SCORE}", worst, mend)


def _bpe_pieces(model: dict[str, Any]) -> list[tuple[str, float]]:
    if model.get("dropout"):
        raise _refuse("BPE `dropout`", model["dropout"], "Set it to null: ids must be certain.")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            raise _refuse(f"BPE `{name}`", model[name], "Give one of SentencePiece without it.")
    unknown = model.get("unk_token")
    if unknown not in model["vocab"] or not model.get("fuse_unk"):
        mend = "SentencePiece's have an `unk_token` in the vocabulary, and `fuse_unk` set."
        raise _refuse("BPE without fused unknown tokens", unknown, mend)
    if not model["merges"]:
        raise InputError("The BPE model has no merges: train it with a larger vocabulary.")
    if any(unknown in _pair(merge) for merge in model["merges"]):
        raise _refuse("A BPE merge of the unknown token", unknown, "Remove the merge.")
    ids = sorted(model["vocab"].items(), key=lambda item: item[1])
    if [i for _, i in ids] != list(range(len(ids))):
        raise InputError("The BPE vocabulary's ids should be 0, 1, 2 … without gap: number anew.")
    return [(text, 0.0) for text, _ in ids]


def _pair(merge: str | list[str]) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge


def _unknown_id(model: dict[str, Any]) -> int:
    return model["unk_id"] if model["type"] == "Unigram" else model["vocab"][model["unk_token"]]


# -------------------------------------------------------------------- what stands around it


def _pre_tokenizer(part: dict[str, Any] | None) -> tuple[bool, dict[str, Any]]:
    parts = [] if part is None else part.get("pretokenizers", [part])
    kinds = [inner.get("type") for inner in parts]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
        mend = "Use Metaspace, or WhitespaceSplit and then Metaspace."
        raise _refuse("This pre-tokenizer", kinds, mend)
    return len(parts) == 2, _with_space_sign(parts[-1])


def _decoder(part: dict[str, Any] | None) -> dict[str, Any]:
    kind = None if part is None else part.get("type")
    if part is None or kind != "Metaspace":
        raise _refuse("A decoder other than Metaspace", kind, "Use Metaspace.")
    return _with_space_sign(part)


def _with_space_sign(metaspace: dict[str, Any]) -> dict[str, Any]:
    if metaspace["replacement"] != SPACE_SIGN:
        mend = f"Use {SPACE_SIGN}."
        raise _refuse("Metaspace with another sign", metaspace["replacement"], mend)
    return metaspace


def _prefix(metaspace: dict[str, Any]) -> str:
    # Old files have only `add_prefix_space`.
    old = "always" if metaspace.get("add_prefix_space", True) else "never"
    return metaspace.get("prepend_scheme", old)


def _check_post_processor(post_processor: dict[str, Any] | None) -> None:
    parts = [] if post_processor is None else post_processor.get("processors", [post_processor])
    for part in parts:
        trims = part.get("trim_offsets", part.get("type") not in _INERT_PROCESSORS)
        if trims:
            mend = "Use TemplateProcessing."
            raise _refuse("This post-processor", part.get("type"), mend)


def _added_token(entry: dict[str, Any]) -> AddedToken:
    if entry.get("single_word"):
        mend = "Set `single_word` to false."
        raise _refuse("An added token with `single_word`", entry["content"], mend)
    strips = entry["lstrip"] or entry["rstrip"]
    if strips and entry["content"] != entry["content"].strip():
        mend = "Drop the space, or `lstrip` and `rstrip`."
        raise _refuse("An added token with a space at its end", entry["content"], mend)
    names = ("id", "content", "special", "lstrip", "rstrip", "normalized")
    return AddedToken(**{name: entry[name] for name in names})
