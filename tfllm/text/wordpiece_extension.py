"""A WordPiece vocabulary that grows by the words of one's own texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from tfllm.errors import InputError
from tfllm.text.vocabulary import Vocabulary
from tfllm.text.wordpiece import WordPiece

__all__ = ["extend_wordpiece"]


def extend_wordpiece(
    tokenizer: WordPiece, documents: Iterable[str], words: int, *, minimum_frequency: int = 2
) -> Vocabulary:
    """Add the most frequent words that the vocabulary cuts into pieces, as whole words.

    They become words like all others, found only where a word begins; ids that are there stay what
    they are. A longer word that begins with a new one is cut anew. Where that needs a character
    inside words that has no piece yet, the piece is added as well, so that no word that could be
    spelt becomes unknown.

    Unlike `extend`, which makes added tokens that are found inside longer words too. Documents are
    read once, one after another; memory grows with the number of different words.

    Args:
        tokenizer: the pretrained model's.
        documents: texts of the domain, in any order.
        words: how many to add at most; fewer if the texts have fewer.
        minimum_frequency: occurrences that a word must have.

    Returns:
        the new tokenizer; an old word's source is itself, a new word's are its old pieces.

    Raises:
        InputError: if `words` is none, `documents` is one string, or a document is no string.

    Example:
        `bert-base-uncased` cuts `subprocess` into `sub ##pro ##ces ##s`; after `extend_wordpiece`
        with CPython's documentation it is the one id 30523, say.
    """
    if words < 1:
        raise InputError(f"words must be at least 1. Received: {words}")
    if isinstance(documents, str):
        raise InputError("documents is one string; give an iterable of them, such as a list")
    state = json.loads(tokenizer.fast.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    prefix: str = state["model"]["continuing_subword_prefix"]
    chosen = _frequent_words(tokenizer, documents, words, minimum_frequency)
    sources = [[i] for i in range(tokenizer.vocabulary_size)]
    for word in chosen:
        vocabulary[word] = len(sources)
        sources.append(_pieces(tokenizer, word))
    if chosen:
        split = tokenizer.fast.pre_tokenizer.pre_tokenize_str
        # Punctuation is a word of its own, so that `[CLS]` is no word.
        spelt = [_text(token, prefix) for token in vocabulary]
        inside = {character for text in spelt if len(split(text)) == 1 for character in text[1:]}
        for character in sorted(c for c in inside if prefix + c not in vocabulary):
            vocabulary[prefix + character] = len(sources)
            whole = tokenizer.fast.token_to_id(character)
            sources.append([] if whole is None else [whole])
    new = WordPiece(
        json.dumps(state),
        special_roles=tokenizer.special_roles,
        special_tokens_in_text=tokenizer.special_tokens_in_text,
    )
    return Vocabulary(new, sources)


def _frequent_words(
    tokenizer: WordPiece, documents: Iterable[str], words: int, minimum_frequency: int
) -> list[str]:
    """List words in several known pieces, the most frequent first; equal ones by the alphabet."""
    normalize = tokenizer.fast.normalizer.normalize_str
    split = tokenizer.fast.pre_tokenizer.pre_tokenize_str
    counts: Counter[str] = Counter()
    for number, document in enumerate(documents):
        if not isinstance(document, str):
            raise InputError(f"document {number} is not a str. Received: {type(document).__name__}")
        counts.update(word for word, _ in split(normalize(document)))
    chosen: list[str] = []
    for word, count in sorted(counts.items(), key=lambda found: (-found[1], found[0])):
        if count < minimum_frequency or len(chosen) == words:
            break
        if _is_cut(tokenizer, word):
            chosen.append(word)
    return chosen


def _is_cut(tokenizer: WordPiece, word: str) -> bool:
    known = tokenizer.fast.token_to_id(word) is not None
    return not known and len(_pieces(tokenizer, word)) > 1


def _pieces(tokenizer: WordPiece, word: str) -> list[int]:
    """Cut a word as the vocabulary does; nothing where it is unknown or holds a special token."""
    tokens = tokenizer.fast.model.tokenize(word)
    unknown = tokenizer.fast.token_to_id(tokenizer.special_roles["unk_token"])
    ids = [token.id for token in tokens]
    return [] if unknown in ids else ids


def _text(token: str, prefix: str) -> str:
    """Write a token as it stands in a word, with a letter before a continuation."""
    return f"a{token.removeprefix(prefix)}" if token.startswith(prefix) else token
