"""What a SentencePiece tokenizer is saved as."""

from __future__ import annotations

import json
from collections.abc import Mapping

import tokenizers

from tfllm.text.byte_level_bpe import ROLES

__all__ = ["tokenizer_json", "transformers_config"]

# The classes of transformers, and the tokens by which theirs are told.
_CLASSES = {
    "AlbertTokenizerFast": {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
    "XLNetTokenizerFast": {"cls_token": "<cls>", "sep_token": "<sep>", "mask_token": "<mask>"},
    "XLMRobertaTokenizerFast": {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"},
}
_DIGITS = range(15, 21)


def tokenizer_json(fast: tokenizers.Tokenizer) -> str:
    """Return `tokenizer.json`, from which `tokenizers` reads the same scores to the last bit."""
    state = json.loads(fast.to_str())
    model = state["model"]
    if model["type"] != "Unigram":
        return json.dumps(state, ensure_ascii=False)
    lines = [
        f"[{json.dumps(text, ensure_ascii=False)}, {_decimal(score)}]"
        for text, score in model["vocab"]
    ]
    model["vocab"] = []
    # Nothing else has this key: within a text, its quotes would be escaped.
    text = json.dumps(state, ensure_ascii=False)
    return text.replace('"vocab": []', '"vocab": [\n' + ",\n".join(lines) + "\n]", 1)


def _decimal(value: float) -> str:
    """Return a decimal that both Python and `tokenizers` read as `value`.

    `tokenizers` takes the digits for a whole number, rounds that to float64, and divides by a
    power of ten, which rounds again. So not every decimal near enough will do.
    """
    if value == int(value):
        return repr(value)
    sign = "-" if value < 0 else ""
    for digits in _DIGITS:
        text = f"{abs(value):.{digits}f}"
        whole = int(text.replace(".", ""))
        if whole < 2**64 and whole / 10.0**digits == abs(value) == float(text):
            return sign + text
    return repr(value)


def transformers_config(
    roles: Mapping[str, str], *, special_tokens_in_text: bool
) -> dict[str, object]:
    """Return `tokenizer_config.json`."""
    kinds = [
        kind
        for kind, needed in _CLASSES.items()
        if all(roles.get(role) == token for role, token in needed.items())
    ]
    return {
        "tokenizer_class": kinds[0] if kinds else "PreTrainedTokenizerFast",
        "split_special_tokens": not special_tokens_in_text,
        "clean_up_tokenization_spaces": False,
        **{role: roles.get(role) for role in ROLES},
    }
