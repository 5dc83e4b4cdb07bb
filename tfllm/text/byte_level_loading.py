"""Reading a byte-level BPE tokenizer from the files that transformers writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from tfllm.errors import InputError
from tfllm.text.byte_level_bpe import ByteLevelBPE
from tfllm.text.tokenizer_files import add_tokens, fast_from_state, read_json, role_texts

__all__ = ["load_byte_level_bpe"]

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


def load_byte_level_bpe(
    files: dict[str, Path], config: dict[str, Any], *, special_tokens_in_text: bool
) -> ByteLevelBPE:
    """Read `tokenizer.json`, or `vocab.json` and `merges.txt`, and what stands beside them.

    From `vocab.json` and `merges.txt` alone, a vocabulary with `<|endoftext|>` is read as
    `GPT2TokenizerFast` reads it, one with `<s>`, `</s>` and `<mask>` as `RobertaTokenizerFast`.

    Args:
        files: name → path.
        config: what `tokenizer_config.json` holds.
        special_tokens_in_text: see `ByteLevelBPE`.

    Raises:
        InputError: they can't be read, or ask for something that isn't done in graph.
    """
    if "tokenizer.json" in files:
        state = read_json(files["tokenizer.json"])
        _heed_config(state, config)
        fast = fast_from_state(state, files["tokenizer.json"])
    else:
        fast = _from_vocabulary(files, config)
    roles = role_texts(files, config, fast, _default_roles(fast))
    return ByteLevelBPE(fast, special_roles=roles, special_tokens_in_text=special_tokens_in_text)


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
    vocabulary = read_json(files["vocab.json"])
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
    texts = sorted(set(role_texts(files, config, fast, _default_roles(fast)).values()))
    add_tokens(fast, files, config, [_special_token(text) for text in texts])
    return fast


def _special_token(content: str) -> AddedToken:
    # transformers' classes declare these as `normalized`, and the mask as taking spaces.
    mask = content == "<mask>"
    return AddedToken(content, special=True, normalized=not mask, lstrip=mask)


def _is_roberta(vocabulary: dict[str, Any]) -> bool:
    return all(token in vocabulary for token in _ROBERTA_DEFAULTS.values())


def _default_roles(fast: tokenizers.Tokenizer) -> dict[str, str]:
    if _is_roberta(fast.get_vocab(with_added_tokens=True)):
        return _ROBERTA_DEFAULTS
    return _GPT2_DEFAULTS if fast.token_to_id(_GPT2_TOKEN) is not None else {}
