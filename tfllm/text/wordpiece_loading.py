"""Reading a WordPiece tokenizer from the files that transformers writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from tfllm.errors import InputError
from tfllm.text.tokenizer_files import add_tokens, fast_from_state, read_json, role_texts
from tfllm.text.wordpiece import WordPiece

__all__ = ["load_wordpiece"]

_DEFAULT_ROLES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
# transformers' classes that put their own settings in the place of tokenizer.json's.
_BERTS = ("Bert", "ConvBert", "DistilBert", "Electra", "Funnel", "LayoutLM", "Lxmert")
_OVERRULING = {f"{kind}Tokenizer" for kind in (*_BERTS, "MobileBert", "SqueezeBert")}
# Name in tokenizer_config.json → name in tokenizer.json, and the classes' default.
_SETTINGS = {
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("handle_chinese_chars", True),
}


def load_wordpiece(
    files: dict[str, Path], config: dict[str, Any], *, special_tokens_in_text: bool
) -> WordPiece:
    """Read `tokenizer.json`, or `vocab.txt`, and what stands beside it.

    `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` of `tokenizer_config.json` are
    heeded as transformers' BERT classes heed them. So `vocab.txt` alone is read with lower-casing.

    Args:
        files: name → path.
        config: what `tokenizer_config.json` holds.
        special_tokens_in_text: see `WordPiece`.

    Raises:
        InputError: they can't be read, or ask for something that isn't done in graph.
    """
    if "tokenizer.json" in files:
        state = read_json(files["tokenizer.json"])
        _heed_config(state, config)
        fast = fast_from_state(state, files["tokenizer.json"])
    else:
        fast = _from_vocabulary(files, config)
    roles = role_texts(files, config, fast, _DEFAULT_ROLES)
    return WordPiece(fast, special_roles=roles, special_tokens_in_text=special_tokens_in_text)


def _heed_config(state: dict[str, Any], config: dict[str, Any]) -> None:
    """Let `tokenizer_config.json` overrule `tokenizer.json` where transformers lets it."""
    normalizer = state.get("normalizer") or {}
    kind = config.get("tokenizer_class")
    if normalizer.get("type") != "BertNormalizer":
        return
    if str(kind).removesuffix("Fast") in _OVERRULING:
        normalizer.update(_settings(config))
    elif kind is None:
        names = [name for name in _SETTINGS if name in config]
        normalizer.update({_SETTINGS[name][0]: config[name] for name in names})


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return {own: config.get(name, default) for name, (own, default) in _SETTINGS.items()}


def _from_vocabulary(files: dict[str, Path], config: dict[str, Any]) -> tokenizers.Tokenizer:
    vocabulary = _read_vocabulary(files["vocab.txt"])
    plain = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    roles = role_texts(files, config, plain, _DEFAULT_ROLES)
    for role in ("unk_token", "cls_token", "sep_token"):
        if role not in roles:
            raise InputError(
                f"{files['vocab.txt']} has no {role}, such as {_DEFAULT_ROLES[role]}: add a line,"
                " or name another in special_tokens_map.json."
            )
    unknown, start, end = roles["unk_token"], roles["cls_token"], roles["sep_token"]
    fast = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    fast.normalizer = normalizers.BertNormalizer(clean_text=True, **_settings(config))
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece(prefix="##")
    fast.post_processor = processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {end}:0",
        pair=f"{start}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    special = [AddedToken(t, special=True, normalized=False) for t in sorted(set(roles.values()))]
    add_tokens(fast, files, config, special)
    return fast


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Read a token a line; of equal lines the last counts, as in transformers."""
    try:
        with path.open(encoding="utf-8") as file:
            return {line.rstrip("\n"): i for i, line in enumerate(file)}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as UTF-8: {error}. Get the file anew.") from None
