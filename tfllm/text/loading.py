"""Reading a tokenizer from the files that transformers writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from tfllm.errors import InputError
from tfllm.text.byte_level_bpe import ROLES, ByteLevelBPE
from tfllm.text.tokenizer import Tokenizer

__all__ = ["load"]

_NAMES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "added_tokens.json",
)
_GPT2_TOKEN = "<|endoftext|>"
_GPT2_DEFAULTS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), _GPT2_TOKEN)
_ROBERTA_DEFAULTS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}


def load(name_or_folder: str | Path, *, special_tokens_in_text: bool | None = None) -> Tokenizer:
    """Read a tokenizer.

    A folder holds `tokenizer.json`, or `vocab.json` and `merges.txt`; `special_tokens_map.json`,
    `tokenizer_config.json` and `added_tokens.json` are heeded where they are. From `vocab.json`
    and `merges.txt` alone, a vocabulary with `<|endoftext|>` is read as `GPT2TokenizerFast` reads
    it, one with `<s>`, `</s>` and `<mask>` as `RobertaTokenizerFast` does.

    Args:
        name_or_folder: a local folder, or else a name on Hugging Face's hub.
        special_tokens_in_text: whether special tokens written in a text are recognised. None:
            what `split_special_tokens` in `tokenizer_config.json` says, or else yes.

    Raises:
        InputError: there are no such files, they can't be read, or they ask for something that
            isn't done in graph.
    """
    place = str(name_or_folder)
    files = _local_files(Path(name_or_folder))
    if files is None:
        files = _hub_files(place)
    if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= set(files):
        raise InputError(
            f"{place} holds no tokenizer: neither tokenizer.json, nor vocab.json and merges.txt."
            f" Found: {', '.join(sorted(files)) or 'none of the files of one'}."
        )
    config = _read_json(files.get("tokenizer_config.json"))
    if "tokenizer.json" in files:
        fast = _from_tokenizer_json(files["tokenizer.json"], config)
    else:
        fast = _from_vocabulary(files, config)
    if special_tokens_in_text is None:
        special_tokens_in_text = not config.get("split_special_tokens", False)
    try:
        return ByteLevelBPE(
            fast,
            special_roles=_roles(files, config, fast),
            special_tokens_in_text=special_tokens_in_text,
        )
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


# -------------------------------------------------------------------- which files


def _local_files(folder: Path) -> dict[str, Path] | None:
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: give the folder that holds the tokenizer's files.")
    return {name: folder / name for name in _NAMES if (folder / name).is_file()}


def _hub_files(name: str) -> dict[str, Path]:
    from transformers.utils import cached_file

    files = {}
    try:
        for file_name in _NAMES:
            path = cached_file(
                name,
                file_name,
                _raise_exceptions_for_missing_entries=False,
            )
            if path is not None:
                files[file_name] = Path(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"No tokenizer {name!r}: there is no such local folder, and Hugging Face's hub and"
            f" its local cache gave nothing ({reason[:200]}). Give a folder that exists."
        ) from None
    return files


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


# -------------------------------------------------------------------- from files to tokenizers


def _from_tokenizer_json(path: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    state = _read_json(path)
    _heed_config(state, config)
    return _from_state(state, path)


def _from_state(state: dict[str, Any], path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(state))
    except Exception as error:  # tokenizers raises nothing more precise
        raise InputError(f"{path} isn't what tokenizers writes: {error}. Get it anew.") from None


def _heed_config(state: dict[str, Any], config: dict[str, Any]) -> None:
    """Let `tokenizer_config.json` overrule `tokenizer.json` where transformers lets it."""
    kind = str(config.get("tokenizer_class")).removesuffix("Fast")
    pre_tokenizer = state.get("pre_tokenizer") or {}
    if "add_prefix_space" in pre_tokenizer:
        given = kind in ("GPT2Tokenizer", "RobertaTokenizer") or "add_prefix_space" in config
        if given:
            pre_tokenizer["add_prefix_space"] = bool(config.get("add_prefix_space", False))
    post_processor = state.get("post_processor") or {}
    if kind == "RobertaTokenizer" and "trim_offsets" in post_processor:
        post_processor["trim_offsets"] = bool(config.get("trim_offsets", True))
        post_processor["add_prefix_space"] = bool(config.get("add_prefix_space", False))


def _from_vocabulary(files: dict[str, Path], config: dict[str, Any]) -> tokenizers.Tokenizer:
    vocabulary = _read_json(files["vocab.json"])
    add_prefix_space = bool(config.get("add_prefix_space", False))
    try:
        model = models.BPE.from_file(str(files["vocab.json"]), str(files["merges.txt"]))
    except Exception as error:  # tokenizers raises nothing more precise
        raise InputError(
            f"{files['merges.txt']} doesn't go with {files['vocab.json']}: {error}. Get both anew."
        ) from None
    fast = tokenizers.Tokenizer(model)
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    fast.decoder = decoders.ByteLevel()
    fast.post_processor = processors.ByteLevel(trim_offsets=False)
    if _is_roberta(vocabulary):
        fast.post_processor = processors.RobertaProcessing(
            ("</s>", vocabulary["</s>"]),
            ("<s>", vocabulary["<s>"]),
            trim_offsets=bool(config.get("trim_offsets", True)),
            add_prefix_space=add_prefix_space,
        )
    _add_tokens(fast, files, config)
    return fast


def _is_roberta(vocabulary: dict[str, Any]) -> bool:
    return all(token in vocabulary for token in _ROBERTA_DEFAULTS.values())


def _add_tokens(fast: tokenizers.Tokenizer, files: dict[str, Path], config: dict[str, Any]) -> None:
    """Add the tokens that transformers would, each with its flags."""
    added: dict[int, AddedToken] = {}
    for content, token_id in _read_json(files.get("added_tokens.json")).items():
        added[token_id] = AddedToken(content, normalized=True)
    for content in _special_texts(files, config, fast):
        place = fast.token_to_id(content)
        if place is not None:
            # transformers' classes declare these as `normalized`, and the mask as taking spaces.
            mask = content == "<mask>"
            added[place] = AddedToken(content, special=True, normalized=not mask, lstrip=mask)
    for token_id, entry in config.get("added_tokens_decoder", {}).items():
        flags = {name: value for name, value in entry.items() if name != "content"}
        added[int(token_id)] = AddedToken(entry["content"], **flags)
    for token_id, token in sorted(added.items()):
        fast.add_special_tokens([token]) if token.special else fast.add_tokens([token])
        if fast.token_to_id(token.content) != token_id:
            raise InputError(
                f"The added token {token.content!r} should have id {token_id}, but the vocabulary"
                f" gives it {fast.token_to_id(token.content)}: ids must follow without a gap."
            )


# -------------------------------------------------------------------- special tokens' roles


def _special_texts(
    files: dict[str, Path], config: dict[str, Any], fast: tokenizers.Tokenizer
) -> list[str]:
    return sorted(set(_roles(files, config, fast).values()))


def _roles(
    files: dict[str, Path], config: dict[str, Any], fast: tokenizers.Tokenizer
) -> dict[str, str]:
    """Return role → text of the token, as far as the vocabulary has it."""
    named = {**_default_roles(fast), **_read_json(files.get("special_tokens_map.json"))}
    named.update({role: config[role] for role in ROLES if role in config})
    texts = {role: _text_of(named.get(role)) for role in ROLES}
    return {
        role: text
        for role, text in texts.items()
        if text is not None and fast.token_to_id(text) is not None
    }


def _default_roles(fast: tokenizers.Tokenizer) -> dict[str, str]:
    if _is_roberta(fast.get_vocab(with_added_tokens=True)):
        return _ROBERTA_DEFAULTS
    return _GPT2_DEFAULTS if fast.token_to_id(_GPT2_TOKEN) is not None else {}


def _text_of(token: str | dict[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token
