"""A vocabulary of one's own on a pretrained model: new words, or another tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import tokenizers

from tfllm.errors import InputError
from tfllm.text.tokenizer import Tokenizer

__all__ = ["Vocabulary", "extend", "sources_of"]

_Tokenizer = TypeVar("_Tokenizer", bound=Tokenizer)
_Sources = list[list[int]]


class Vocabulary(NamedTuple):
    """A tokenizer, and where the rows of its embeddings come from.

    Attributes:
        tokenizer: the new one.
        sources: for each of its ids, ids of the old tokenizer whose embeddings' mean is the new
            row; empty where there are none. `CausalLM.with_vocabulary` takes them.
    """

    tokenizer: Tokenizer
    sources: _Sources


def extend(tokenizer: _Tokenizer, words: Sequence[str]) -> Vocabulary:
    """Add words to a vocabulary; ids that are there stay what they are.

    The words become added tokens, as by transformers' `add_tokens`: they are found wherever they
    stand in a text, inside longer words too.

    Args:
        tokenizer: of a family of `tfllm.text`.
        words: the new ones; those that already are one token are left out.

    Returns:
        the new tokenizer; an old word's source is itself, a new word's are its old pieces.

    Raises:
        InputError: if a word is empty, has white space at its ends, is there twice, or is in the
            vocabulary as a part of words.

    Example:
        `gpt2` makes `tensorflow` of 83 and 22854 …; after `extend` it is the one id 50257, whose
        embedding starts as the mean of the old pieces'.
    """
    bad = [word for word in words if not word or word != word.strip()]
    if bad or len(set(words)) != len(words):
        raise InputError(
            "new words must be different, not empty, and without white space at their ends. "
            f"Received: {bad or list(words)}"
        )
    old = tokenizer.fast
    new_words = [word for word in words if not _is_one_token(tokenizer, word)]
    taken = [word for word in new_words if old.token_to_id(word) is not None]
    if taken:
        raise InputError(
            f"{taken[0]!r} is in the vocabulary as a part of words, and can't be a word too. "
            "Leave it out"
        )
    fast = tokenizers.Tokenizer.from_str(old.to_str())
    fast.add_tokens(list(new_words))
    sources: _Sources = [[i] for i in range(tokenizer.vocabulary_size)]
    for word in new_words:
        place = fast.token_to_id(word)
        # Ids that no token has may lie between the old words and the new ones.
        sources += [[] for _ in range(place + 1 - len(sources))]
        sources[place] = _known_pieces(tokenizer, word)
    return Vocabulary(_like(tokenizer, fast), sources)


def sources_of(old: Tokenizer, new: Tokenizer) -> _Sources:
    """Find what the rows of a new tokenizer's embeddings can start from.

    Words that both vocabularies spell alike keep their row. Special tokens with the same role keep
    theirs. Any other new word starts as the mean of the pieces that the old tokenizer makes of its
    text.

    Args:
        old: the pretrained model's.
        new: of the same family, such as one trained on one's own texts.

    Returns:
        for each id of `new`, ids of `old`; empty where there is no text to cut into pieces.
    """
    return [_sources_of_token(i, old, new) for i in range(new.vocabulary_size)]


def _sources_of_token(token_id: int, old: Tokenizer, new: Tokenizer) -> list[int]:
    token = new.fast.id_to_token(token_id)
    if token is None:
        return []
    for role, text in _roles(new).items():
        if text == token and role in _roles(old):
            found = old.fast.token_to_id(_roles(old)[role])
            return [] if found is None else [found]
    found = old.fast.token_to_id(token)
    if found is not None:
        return [found]
    prefix = getattr(new.fast.model, "continuing_subword_prefix", None)
    if prefix and token.startswith(prefix):
        # A continuation's pieces are those that follow some other letter in the same word.
        return _known_pieces(old, f"a{token.removeprefix(prefix)}")[1:]
    # A token that is a part of a character has no text of its own.
    text = new.fast.decode([token_id], skip_special_tokens=True)
    return [] if "\ufffd" in text else _known_pieces(old, text)


def _roles(tokenizer: Tokenizer) -> dict[str, str]:
    return getattr(tokenizer, "special_roles", {})


def _known_pieces(tokenizer: Tokenizer, word: str) -> list[int]:
    """Cut a word into old tokens, without the one that stands for what is unknown."""
    fast = tokenizer.fast
    unknown = fast.token_to_id(_roles(tokenizer).get("unk_token", ""))
    return [i for i in fast.encode(word, add_special_tokens=False).ids if i != unknown]


def _is_one_token(tokenizer: Tokenizer, word: str) -> bool:
    return (
        len(_known_pieces(tokenizer, word))
        == 1
        == len(tokenizer.fast.encode(word, add_special_tokens=False).ids)
    )


def _like(tokenizer: Tokenizer, fast: tokenizers.Tokenizer) -> Tokenizer:
    """Build a tokenizer of the same family and settings."""
    build = type(tokenizer)
    return build(  # type: ignore[call-arg]
        fast,
        special_roles=_roles(tokenizer),
        special_tokens_in_text=getattr(tokenizer, "special_tokens_in_text", True),
    )
