"""Training a WordPiece vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tokenizers
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tfllm.errors import InputError
from tfllm.text.wordpiece import WordPiece

__all__ = ["train_wordpiece"]

_ROLES = {
    "[UNK]": "unk_token",
    "[SEP]": "sep_token",
    "[PAD]": "pad_token",
    "[CLS]": "cls_token",
    "[MASK]": "mask_token",
}
_PREFIX = "##"
# A word is handed over as often as it occurs, this many at a time.
_AT_A_TIME = 1000


def train_wordpiece(
    texts: Iterable[str],
    vocabulary_size: int,
    *,
    lowercase: bool = True,
    special_tokens: Sequence[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    minimum_frequency: int = 2,
    alphabet_limit: int | None = None,
    special_tokens_in_text: bool = True,
) -> WordPiece:
    """Learn a BERT-like vocabulary from texts.

    Special tokens get the first ids, the characters the next ones, then those inside words, then
    come the merges. The same texts, in any order, give the same vocabulary. Texts are read once,
    one after another, so a generator over files will do; memory grows with the number of different
    words.

    Args:
        texts: what to learn from.
        vocabulary_size: number of ids at most; fewer if the texts have no more pairs to merge.
        lowercase: whether text loses its capitals and accents first, as in BERT uncased.
        special_tokens: tokens that texts don't consist of. `[UNK]` must be among them, and `[PAD]`,
            `[CLS]`, `[SEP]` and `[MASK]` get their roles.
        minimum_frequency: occurrences that a pair must have to be merged.
        alphabet_limit: how many different characters are kept at most, the most frequent ones; a
            word with another one is unknown. None: all.
        special_tokens_in_text: see `WordPiece`.

    Raises:
        InputError: `vocabulary_size` has no room for the characters and the special tokens, a text
            isn't a `str`, there are no texts, or there is no `[UNK]`.
    """
    if isinstance(texts, str):
        raise InputError("texts is one string; give an iterable of them, such as a list.")
    if "[UNK]" not in special_tokens:
        raise InputError(
            f"special_tokens needs [UNK], for words that can't be spelt. Received:"
            f" {', '.join(special_tokens) or 'none'}. Add it."
        )
    words = _count_words(texts, lowercase=lowercase)
    alphabet = _alphabet(words, alphabet_limit)
    first = list(dict.fromkeys([*special_tokens, *alphabet]))
    if vocabulary_size < len(first):
        raise InputError(
            f"vocabulary_size={vocabulary_size} is too small: {len(special_tokens)} special tokens"
            f" and the texts' characters take {len(first)}. Give more, or set alphabet_limit."
        )
    vocabulary = _learn(words, vocabulary_size, first, minimum_frequency)
    fast = _bert(vocabulary, special_tokens, lowercase=lowercase)
    roles = {_ROLES[token]: token for token in special_tokens if token in _ROLES}
    return WordPiece(fast, special_roles=roles, special_tokens_in_text=special_tokens_in_text)


def _count_words(texts: Iterable[str], *, lowercase: bool) -> Counter[str]:
    normalize = normalizers.BertNormalizer(lowercase=lowercase).normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    words: Counter[str] = Counter()
    number = -1
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"Text number {number} is not a str. Received: {type(text).__name__}.")
        words.update(word for word, _ in split(normalize(text)))
    if number < 0:
        raise InputError("There are no texts to learn a vocabulary from: the iterable is empty.")
    return words


def _alphabet(words: Mapping[str, int], limit: int | None) -> list[str]:
    """Return the characters, in order, and then those that stand inside words, with the prefix."""
    counts: Counter[str] = Counter()
    inner: set[str] = set()
    for word, count in words.items():
        inner.update(word[1:])
        for character in word:
            counts[character] += count
    kept = sorted(counts, key=lambda c: (-counts[c], c))[:limit]
    return [*sorted(kept), *(_PREFIX + c for c in sorted(inner.intersection(kept)))]


def _learn(
    words: Mapping[str, int], vocabulary_size: int, first: list[str], minimum_frequency: int
) -> dict[str, int]:
    # Left alone, the trainer numbers the characters anew in each process, and which of two equally
    # frequent pairs is merged hangs on that. So it gets them numbered, as if they were special.
    characters = [token for token in first if len(token) == 1]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=minimum_frequency,
        special_tokens=first,
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        continuing_subword_prefix=_PREFIX,
        show_progress=False,
    )
    learner = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(_repeated(words), trainer)
    return learner.get_vocab(with_added_tokens=False)


def _repeated(words: Mapping[str, int]) -> Iterator[str]:
    for word, count in sorted(words.items()):
        for begin in range(0, count, _AT_A_TIME):
            yield " ".join([word] * min(_AT_A_TIME, count - begin))


def _bert(
    vocabulary: dict[str, int], special_tokens: Sequence[str], *, lowercase: bool
) -> tokenizers.Tokenizer:
    fast = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    fast.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece(prefix=_PREFIX)
    if {"[CLS]", "[SEP]"} <= set(special_tokens):
        fast.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
        )
    fast.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special_tokens]
    )
    return fast
