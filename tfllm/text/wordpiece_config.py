"""What a `tokenizers` configuration asks of WordPiece, checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tokenizers import normalizers

from tfllm.errors import InputError
from tfllm.text.added_token import AddedToken
from tfllm.text.bert_characters import LETTER, BertNormalization, word_classes

__all__ = ["WordPieceConfig"]

# Post-processors that add special tokens and leave offsets alone.
_INERT_PROCESSORS = ("TemplateProcessing", "BertProcessing")


@dataclass(frozen=True)
class WordPieceConfig:
    """The parts of a `tokenizers` configuration that decide ids and offsets."""

    vocabulary: dict[str, int]
    unk_token: str
    continuing_subword_prefix: str
    """What a token that isn't a word's first starts with in the vocabulary."""
    max_input_chars_per_word: int
    """Words of more characters are unknown."""
    normalization: BertNormalization
    added_tokens: list[AddedToken]

    @classmethod
    def from_json(cls, text: str) -> WordPieceConfig:
        """Read what `tokenizers.Tokenizer.to_str` writes.

        Raises:
            InputError: the tokenizer isn't WordPiece, or it asks for something that the graph
                doesn't do.
        """
        state = _parse(text)
        normalization = _normalization(state["normalizer"])
        _check_model(state["model"], normalization)
        _check_pipeline(state)
        added = [_added_token(entry) for entry in state["added_tokens"]]
        model = state["model"]
        config = cls(
            vocabulary=model["vocab"],
            unk_token=model["unk_token"],
            continuing_subword_prefix=model["continuing_subword_prefix"],
            max_input_chars_per_word=model["max_input_chars_per_word"],
            normalization=normalization,
            added_tokens=added,
        )
        _check_added_tokens(added, config.normalizer)
        return config

    @property
    def vocabulary_size(self) -> int:
        """One more than the highest id."""
        ids = [*self.vocabulary.values(), *(token.id for token in self.added_tokens)]
        return max(ids) + 1

    @property
    def normalizer(self) -> normalizers.Normalizer:
        """Hugging Face's view of `normalization`."""
        settings = self.normalization
        return normalizers.BertNormalizer(
            clean_text=settings.clean_text,
            handle_chinese_chars=settings.handle_chinese_chars,
            strip_accents=settings.strip_accents,
            lowercase=settings.lowercase,
        )


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


def _normalization(normalizer: dict[str, Any] | None) -> BertNormalization:
    if normalizer is None:
        return BertNormalization(
            clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False
        )
    if normalizer.get("type") != "BertNormalizer":
        kind = normalizer.get("type")
        raise _refuse("A normalizer other than BertNormalizer", kind, "Use BertNormalizer.")
    strip_accents = normalizer["strip_accents"]
    return BertNormalization(
        clean_text=normalizer["clean_text"],
        handle_chinese_chars=normalizer["handle_chinese_chars"],
        strip_accents=normalizer["lowercase"] if strip_accents is None else strip_accents,
        lowercase=normalizer["lowercase"],
    )


def _check_model(model: dict[str, Any], normalization: BertNormalization) -> None:
    if model.get("type") != "WordPiece":
        raise _refuse("The tokenizer's model type", model.get("type"), "Give a WordPiece.")
    vocabulary, unknown = model["vocab"], model["unk_token"]
    if unknown not in vocabulary:
        raise InputError(
            f"The vocabulary lacks the unknown token {unknown!r}, so unknown words would have no"
            " id: add it to the vocabulary, or name another `unk_token`."
        )
    if len(set(vocabulary.values())) < len(vocabulary):
        raise InputError("Two tokens of the vocabulary have the same id: give each one of its own.")
    prefix = model["continuing_subword_prefix"]
    # TF Text's matcher goes wrong on words that start with a longer prefix: none may.
    if len(prefix) > 1 and all(word_classes()[ord(c)] == LETTER for c in prefix):
        mend = "One character will do, or one with punctuation in it."
        raise _refuse("This `continuing_subword_prefix`", prefix, mend)
    if prefix and unknown.startswith(prefix):
        raise _refuse("An unknown token that starts with the prefix", unknown, "Rename it.")
    with_nul = next((token for token in vocabulary if "\x00" in token), None)
    if with_nul is not None and not normalization.clean_text:
        raise _refuse("A token with U+0000, without `clean_text`,", with_nul, "Remove it.")


def _check_pipeline(state: dict[str, Any]) -> None:
    pre_tokenizer = state["pre_tokenizer"] or {}
    if pre_tokenizer.get("type") != "BertPreTokenizer":
        kind = pre_tokenizer.get("type")
        raise _refuse("A pre-tokenizer other than BertPreTokenizer", kind, "Use BERT's.")
    post_processor = state["post_processor"] or {"processors": []}
    for part in post_processor.get("processors", [post_processor]):
        if part.get("type") not in _INERT_PROCESSORS:
            kind = part.get("type")
            raise _refuse("This post-processor", kind, f"Use {' or '.join(_INERT_PROCESSORS)}.")
    decoder = state["decoder"] or {"type": "WordPiece"}
    if decoder.get("type") != "WordPiece":
        raise _refuse("A decoder other than WordPiece", decoder.get("type"), "Use WordPiece.")


def _added_token(entry: dict[str, Any]) -> AddedToken:
    if entry.get("single_word"):
        mend = "Set `single_word` to false."
        raise _refuse("An added token with `single_word`", entry["content"], mend)
    names = ("id", "content", "special", "lstrip", "rstrip", "normalized")
    return AddedToken(**{name: entry[name] for name in names})


def _check_added_tokens(added: list[AddedToken], normalizer: normalizers.Normalizer) -> None:
    strips = any(token.lstrip or token.rstrip for token in added)
    seen: dict[tuple[bool, str], str] = {}
    for token in added:
        content = normalizer.normalize_str(token.content) if token.normalized else token.content
        if not content.strip():
            raise _refuse("An added token of which nothing remains", token.content, "Drop it.")
        if strips and content != content.strip():
            mend = "Drop the space, or `lstrip` and `rstrip` of every added token."
            raise _refuse("An added token with a space at its end", token.content, mend)
        twin = seen.setdefault((token.normalized, content), token.content)
        if twin != token.content:
            mend = f"Keep one of them, or set `normalized` of {twin!r} to false."
            raise _refuse(f"An added token that normalizes to what {twin!r} does", content, mend)
