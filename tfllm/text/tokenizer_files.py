"""Finding and reading the files of a tokenizer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from tfllm.errors import InputError
from tfllm.hub import hub_file

__all__ = [
    "add_tokens",
    "fast_from_state",
    "find_files",
    "read_json",
    "role_texts",
]

_NAMES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "added_tokens.json",
)


def find_files(name_or_folder: str | Path) -> dict[str, Path]:
    """Return name → path of a tokenizer's files, as far as there are any.

    Args:
        name_or_folder: a local folder, or else a name on Hugging Face's hub.

    Raises:
        InputError: it is neither.
    """
    folder = Path(name_or_folder)
    if not os.path.exists(folder):  # which `Path` raises for where a name is too long
        found = {name: hub_file(str(name_or_folder), name) for name in _NAMES}
        return {name: path for name, path in found.items() if path is not None}
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is a file: give the folder that holds the tokenizer's files.")
    return {name: folder / name for name in _NAMES if (folder / name).is_file()}


def read_json(path: Path | None) -> dict[str, Any]:
    """Return the object in a JSON file; of no file, an empty one.

    Raises:
        InputError: the file can't be read, or holds something else.
    """
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}. Get the file anew.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold a JSON object. Received: {type(content).__name__}.")
    return content


def fast_from_state(state: dict[str, Any], path: Path) -> tokenizers.Tokenizer:
    """Build Hugging Face's tokenizer from what `tokenizer.json`, at `path`, holds.

    Raises:
        InputError: that isn't a tokenizer.
    """
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(state))
    except Exception as error:  # tokenizers raises nothing more precise
        raise InputError(f"{path} isn't what tokenizers writes: {error}. Get it anew.") from None


def role_texts(
    files: dict[str, Path],
    config: dict[str, Any],
    fast: tokenizers.Tokenizer,
    defaults: dict[str, str],
) -> dict[str, str]:
    """Return role → text of the special token, as far as the vocabulary has it.

    Args:
        files: those of the tokenizer.
        config: what `tokenizer_config.json` holds; it goes before `special_tokens_map.json`.
        fast: the tokenizer.
        defaults: what holds where the files say nothing; `transformers`' class decides. Its keys
            needn't be all the roles.
    """
    from tfllm.text.byte_level_bpe import ROLES

    named = {**defaults, **read_json(files.get("special_tokens_map.json"))}
    named.update({role: config[role] for role in ROLES if role in config})
    texts = {role: _text_of(named.get(role)) for role in ROLES}
    return {
        role: text
        for role, text in texts.items()
        if text is not None and fast.token_to_id(text) is not None
    }


def _text_of(token: str | dict[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token


def add_tokens(
    fast: tokenizers.Tokenizer,
    files: dict[str, Path],
    config: dict[str, Any],
    special: list[AddedToken],
) -> None:
    """Add the tokens that transformers would, each with its flags.

    Args:
        fast: the tokenizer, which is changed.
        files: `added_tokens.json` is heeded.
        config: its `added_tokens_decoder` is heeded; it goes before everything else.
        special: those of the roles; what the vocabulary doesn't have is left out.

    Raises:
        InputError: a token's id doesn't follow the others.
    """
    added: dict[int, AddedToken] = {}
    for content, token_id in read_json(files.get("added_tokens.json")).items():
        added[token_id] = AddedToken(content, normalized=True)
    for token in special:
        place = fast.token_to_id(token.content)
        if place is not None:
            added[place] = token
    for key, entry in config.get("added_tokens_decoder", {}).items():
        flags = {name: value for name, value in entry.items() if name != "content"}
        added[int(key)] = AddedToken(entry["content"], **flags)
    for token_id, token in sorted(added.items()):
        fast.add_special_tokens([token]) if token.special else fast.add_tokens([token])
        if fast.token_to_id(token.content) != token_id:
            raise InputError(
                f"The added token {token.content!r} should have id {token_id}, but the vocabulary"
                f" gives it {fast.token_to_id(token.content)}: ids must follow without a gap."
            )
