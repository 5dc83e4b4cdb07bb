"""Reading a SentencePiece tokenizer from the files that transformers writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from tfllm.errors import InputError
from tfllm.text.byte_level_bpe import ROLES
from tfllm.text.sentencepiece import SentencePiece
from tfllm.text.sentencepiece_conversion import DEFAULT_ROLES, convert, family_of
from tfllm.text.sentencepiece_model_file import ModelFile

__all__ = ["load_sentencepiece"]

_MODEL_FILES = ("spiece.model", "sentencepiece.bpe.model")


def load_sentencepiece(
    files: dict[str, Path], config: dict[str, Any], *, special_tokens_in_text: bool | None = None
) -> SentencePiece:
    """Read a SentencePiece tokenizer.

    `tokenizer.json` is read where it is; otherwise `spiece.model` or `sentencepiece.bpe.model` as
    transformers' fast classes of ALBERT, XLNet and XLM-RoBERTa read it. `special_tokens_map.json`
    and `added_tokens.json` are heeded where they are.

    Args:
        files: name of each file there is → where it is.
        config: the content of `tokenizer_config.json`; empty where there is none.
        special_tokens_in_text: whether special tokens written in a text are recognised. None:
            what `split_special_tokens` in the configuration says, or else yes.

    Raises:
        InputError: there are no such files, they can't be read, or they ask for something that
            isn't done in graph.
    """
    if special_tokens_in_text is None:
        special_tokens_in_text = not config.get("split_special_tokens", False)
    if "tokenizer.json" in files:
        fast = _from_tokenizer_json(files["tokenizer.json"])
        roles = _named_roles(files, config)
    else:
        fast, roles = _from_model_file(files, config)
    known = {role: text for role, text in roles.items() if fast.token_to_id(text) is not None}
    return SentencePiece(fast, special_roles=known, special_tokens_in_text=special_tokens_in_text)


def _from_tokenizer_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more precise
        raise InputError(f"{path} isn't what tokenizers writes: {error}. Get it anew.") from None


def _from_model_file(
    files: dict[str, Path], config: dict[str, Any]
) -> tuple[Tokenizer, dict[str, str]]:
    path = next((files[name] for name in _MODEL_FILES if name in files), None)
    if path is None:
        raise InputError(
            "There is no SentencePiece tokenizer: neither tokenizer.json nor"
            f" {' nor '.join(_MODEL_FILES)}. Found: {', '.join(sorted(files)) or 'nothing'}."
        )
    model = ModelFile.read(path)
    family = family_of(path, model, config)
    roles = {**DEFAULT_ROLES[family], **_named_roles(files, config)}
    try:
        fast = convert(model, family, config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    _add_tokens(fast, files, config, roles)
    return fast, roles


def _add_tokens(
    fast: Tokenizer, files: dict[str, Path], config: dict[str, Any], roles: Mapping[str, str]
) -> None:
    """Add the tokens that transformers would, each with its flags."""
    there = {token.content for token in fast.get_added_tokens_decoder().values()}
    for role, text in roles.items():
        # transformers' classes declare the mask as taking the space before it.
        mask = role == "mask_token"
        if mask or text not in there:
            fast.add_special_tokens([AddedToken(text, special=True, normalized=False, lstrip=mask)])
    numbered = [
        (token_id, AddedToken(content, normalized=True))
        for content, token_id in _read_json(files.get("added_tokens.json")).items()
        if fast.token_to_id(content) is None
    ]
    for token_id, entry in config.get("added_tokens_decoder", {}).items():
        flags = {name: value for name, value in entry.items() if name != "content"}
        numbered.append((int(token_id), AddedToken(entry["content"], **flags)))
    for token_id, token in sorted(numbered, key=lambda item: item[0]):
        fast.add_special_tokens([token]) if token.special else fast.add_tokens([token])
        if fast.token_to_id(token.content) != token_id:
            raise InputError(
                f"The added token {token.content!r} should have id {token_id}, but the vocabulary"
                f" gives it {fast.token_to_id(token.content)}: ids must follow without a gap."
            )


def _named_roles(files: dict[str, Path], config: dict[str, Any]) -> dict[str, str]:
    """Return role → text of the token, as far as the files name them."""
    named = _read_json(files.get("special_tokens_map.json"))
    named.update({role: config[role] for role in ROLES if role in config})
    texts = {role: _text_of(named.get(role)) for role in ROLES}
    return {role: text for role, text in texts.items() if text is not None}


def _text_of(token: str | dict[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token


def _read_json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}. Get the file anew.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold a JSON object. Received: {type(content).__name__}.")
    return content
