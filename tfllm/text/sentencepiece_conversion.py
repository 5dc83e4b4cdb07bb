"""From a SentencePiece model file to what transformers' fast tokenizers make of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from tfllm.errors import InputError
from tfllm.text.sentencepiece_config import SPACE_SIGN
from tfllm.text.sentencepiece_model_file import CONTROL, USER_DEFINED, ModelFile

__all__ = ["DEFAULT_ROLES", "convert", "family_of"]

DEFAULT_ROLES = {
    "albert": {
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "unk_token": "<unk>",
        "sep_token": "[SEP]",
        "pad_token": "<pad>",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    "xlnet": {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "<sep>",
        "pad_token": "<pad>",
        "cls_token": "<cls>",
        "mask_token": "<mask>",
    },
    "xlm-roberta": {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    },
}
"""Family → role → the token that transformers takes for it where no file says otherwise."""

_CLASSES = {
    "AlbertTokenizer": "albert",
    "XLNetTokenizer": "xlnet",
    "XLMRobertaTokenizer": "xlm-roberta",
}
# XLM-RoBERTa's vocabulary starts as fairseq's does, whatever the file says.
_FAIRSEQ_START = ["<s>", "<pad>", "</s>", "<unk>"]
# In a vocabulary of ALBERT or XLNet, a number before a comma is worth this much less.
_NUMBER_COMMA_PENALTY = 100


def family_of(path: Path, model: ModelFile, config: Mapping[str, Any]) -> str:
    """Return `albert`, `xlnet` or `xlm-roberta`.

    Raises:
        InputError: the tokenizer's class is another, or can't be told from the file.
    """
    given = config.get("tokenizer_class")
    if given not in (None, "PreTrainedTokenizerFast"):
        family = _CLASSES.get(str(given).removesuffix("Fast"))
        if family is None:
            raise InputError(
                f"{path} belongs to a {given}, which is not read from a SentencePiece model file."
                f" Supported: {', '.join(_CLASSES)}; for others, give tokenizer.json."
            )
        return family
    texts = {piece.text for piece in model.pieces}
    if path.name == "sentencepiece.bpe.model":
        return "xlm-roberta"
    for family, telling in {"albert": {"[CLS]", "[SEP]"}, "xlnet": {"<cls>", "<sep>"}}.items():
        if telling <= texts:
            return family
    raise InputError(
        f"{path} has neither ALBERT's [CLS] and [SEP] nor XLNet's <cls> and <sep>: name the"
        " `tokenizer_class` in tokenizer_config.json beside it, or give tokenizer.json."
    )


def convert(model: ModelFile, family: str, config: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer that transformers' fast class of that family makes.

    Args:
        model: the model file.
        family: of `family_of`.
        config: `do_lower_case` and `keep_accents` are heeded for ALBERT and XLNet.
    """
    fast = Tokenizer(_model(model, family))
    fast.add_tokens(
        [
            AddedToken(piece.text, normalized=False, special=piece.kind == CONTROL)
            for piece in model.pieces
            if piece.kind in (CONTROL, USER_DEFINED)
        ]
    )
    fast.normalizer = _normalizer(model, family, config)
    fast.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE_SIGN, prepend_scheme="always")
    fast.decoder = decoders.Metaspace(replacement=SPACE_SIGN, prepend_scheme="always")
    fast.post_processor = _post_processor(fast, family)
    return fast


def _model(model: ModelFile, family: str) -> models.Model:
    vocabulary = _vocabulary(model, family)
    if model.model_type == "bpe":
        ids = {text: i for i, (text, _) in enumerate(vocabulary)}
        places = {piece.text: i for i, piece in enumerate(model.pieces)}
        merges = _merges(places, dict(vocabulary))
        return models.BPE(ids, merges, unk_token=model.unknown_piece, fuse_unk=True)
    unknown = _FAIRSEQ_START.index("<unk>") if family == "xlm-roberta" else model.unknown_id
    return models.Unigram(vocabulary, unknown, False)


def _vocabulary(model: ModelFile, family: str) -> list[tuple[str, float]]:
    pieces = [(piece.text, piece.score) for piece in model.pieces]
    if family == "xlm-roberta":
        return [(text, 0.0) for text in _FAIRSEQ_START] + pieces[3:] + [("<mask>", 0.0)]
    return [
        (text, score - _NUMBER_COMMA_PENALTY if _is_number_comma(text) else score)
        for text, score in pieces
    ]


def _is_number_comma(text: str) -> bool:
    return len(text) > 1 and text[-1] == "," and text[-2].isdigit()


def _merges(places: dict[str, int], scores: dict[str, float]) -> list[tuple[str, str]]:
    """Return each way to make a piece of two others, those of the best piece first.

    Args:
        places: text of each piece of the file → where it stands there.
        scores: text of each piece of the vocabulary → its score.
    """
    ranked = []
    for text, score in scores.items():
        halves = [(text[:i], text[i:]) for i in range(1, len(text))]
        halves = [pair for pair in halves if pair[0] in places and pair[1] in places]
        halves.sort(key=lambda pair: (places[pair[0]], places[pair[1]]))
        ranked += [(score, len(left), len(right), left, right) for left, right in halves]
    ranked.sort(key=lambda entry: entry[:3], reverse=True)
    return [(left, right) for *_, left, right in ranked]


def _normalizer(model: ModelFile, family: str, config: Mapping[str, Any]) -> normalizers.Normalizer:
    charsmap = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    two_spaces = Regex(" {2,}")
    if family == "xlm-roberta":
        ends = normalizers.Strip(left=False, right=True)
        return normalizers.Sequence([*charsmap, ends, normalizers.Replace(two_spaces, SPACE_SIGN)])
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not config.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if config.get("do_lower_case", family == "albert"):
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence([*steps, *charsmap, normalizers.Replace(two_spaces, " ")])


def _post_processor(fast: Tokenizer, family: str) -> processors.PostProcessor:
    """Put in the special tokens as the family does; ids without them don't depend on it."""
    single, pair, names = {
        "albert": (
            "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", ("[CLS]", "[SEP]")
        ),
        "xlnet": ("$A:0 <sep>:0 <cls>:2", "$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2", ("<sep>", "<cls>")),
        "xlm-roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>", ("<s>", "</s>")),
    }[family]  # fmt: skip
    ids = [(name, fast.token_to_id(name)) for name in names]
    if any(token_id is None for _, token_id in ids):
        raise InputError(
            f"The vocabulary lacks {' or '.join(names)}, which {family} puts around texts: give"
            " the model file of that family, or tokenizer.json."
        )
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
