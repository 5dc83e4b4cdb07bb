"""Reading a tokenizer from the files that transformers writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfllm.errors import InputError
from tfllm.text.tokenizer import Tokenizer
from tfllm.text.tokenizer_files import find_files, read_json

__all__ = ["load"]

_SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model")


def load(name_or_folder: str | Path, *, special_tokens_in_text: bool | None = None) -> Tokenizer:
    """Read a tokenizer.

    A folder holds `tokenizer.json`, or else `vocab.json` and `merges.txt` (byte-level BPE),
    `vocab.txt` (WordPiece), `spiece.model` or `sentencepiece.bpe.model` (SentencePiece);
    `special_tokens_map.json`, `tokenizer_config.json` and `added_tokens.json` are heeded where they
    are. What the files leave open is decided as transformers' classes decide it.

    Args:
        name_or_folder: a local folder, or else a name on Hugging Face's hub.
        special_tokens_in_text: whether special tokens written in a text are recognised. None:
            what `split_special_tokens` in `tokenizer_config.json` says, or else yes.

    Raises:
        InputError: there are no such files, they can't be read, or they ask for something that
            isn't done in graph.
    """
    files = find_files(name_or_folder)
    config = read_json(files.get("tokenizer_config.json"))
    if special_tokens_in_text is None:
        special_tokens_in_text = not config.get("split_special_tokens", False)
    kind = _kind(files, str(name_or_folder))
    try:
        return _LOADERS[kind](files, config, special_tokens_in_text)
    except InputError as error:
        raise InputError(f"{name_or_folder}: {error}") from None


def _kind(files: dict[str, Path], place: str) -> str:
    if "tokenizer.json" in files:
        return _kind_of_state(read_json(files["tokenizer.json"]))
    if {"vocab.json", "merges.txt"} <= set(files):
        return "byte-level BPE"
    if "vocab.txt" in files:
        return "WordPiece"
    if not set(files).isdisjoint(_SENTENCEPIECE):
        return "SentencePiece"
    inside = Path(place) / "model"
    meant = f" Did you mean {inside}?" if inside.is_dir() else ""
    raise InputError(
        f"{place} holds no tokenizer: neither tokenizer.json, nor vocab.json and merges.txt, nor"
        f" vocab.txt, nor {' nor '.join(_SENTENCEPIECE)}."
        f" Found: {', '.join(sorted(files)) or 'none of them'}.{meant}"
    )


def _kind_of_state(state: dict[str, Any]) -> str:
    """Say what `tokenizer.json` holds; what is none of these is refused by byte-level BPE."""
    model = state.get("model")
    model = model if isinstance(model, dict) else {}
    if model.get("type") == "WordPiece":
        return "WordPiece"
    pre_tokenizer = state.get("pre_tokenizer") or {}
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    metaspace = any(part.get("type") == "Metaspace" for part in parts)
    if model.get("type") == "Unigram":
        return "SentencePiece"
    if model.get("type") == "BPE" and (metaspace or model.get("byte_fallback")):
        return "SentencePiece"
    return "byte-level BPE"


def _load_byte_level_bpe(
    files: dict[str, Path], config: dict[str, Any], special_tokens_in_text: bool
) -> Tokenizer:
    from tfllm.text.byte_level_loading import load_byte_level_bpe

    return load_byte_level_bpe(files, config, special_tokens_in_text=special_tokens_in_text)


def _load_wordpiece(
    files: dict[str, Path], config: dict[str, Any], special_tokens_in_text: bool
) -> Tokenizer:
    from tfllm.text.wordpiece_loading import load_wordpiece

    return load_wordpiece(files, config, special_tokens_in_text=special_tokens_in_text)


def _load_sentencepiece(
    files: dict[str, Path], config: dict[str, Any], special_tokens_in_text: bool
) -> Tokenizer:
    from tfllm.text.sentencepiece_loading import load_sentencepiece

    return load_sentencepiece(files, {**config, "split_special_tokens": not special_tokens_in_text})


_LOADERS = {
    "byte-level BPE": _load_byte_level_bpe,
    "WordPiece": _load_wordpiece,
    "SentencePiece": _load_sentencepiece,
}
