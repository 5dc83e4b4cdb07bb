"""The rows of text on which TF Text's BERT tokenizer gives Hugging Face's ids, and their ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_text

from tfllm.text.added_token import AddedToken
from tfllm.text.bert_characters import (
    ISOLATED,
    LETTER,
    SPACE,
    BertNormalization,
    combining_order,
    rewritings,
)
from tfllm.text.bert_words import normalized_content
from tfllm.text.wordpiece_config import WordPieceConfig
from tfllm.text.wordpiece_matcher import vocabulary_list

__all__ = ["PlainRows", "agreed_characters"]

_DROPPED, _OTHER = 4, 5
# Scripts that are worth a comparison; the rest of Unicode takes the way by tables.
_CANDIDATES = [*range(1, 0xAC00), *range(0xF900, 0x10000), *range(0x1F000, 0x1FB00)]
# Of these, the spaces and punctuation are told apart when long words are looked for.
_SEPARATORS = [*range(0x7F), *range(0x2010, 0x2028), *range(0x3000, 0x3020), *range(0x4E00, 0xA000)]
_SEPARATORS += [*range(0xFF00, 0xFF20)]
# RE2's repetitions cost memory.
_LONGEST_COUNTED = 200
_LONGEST_LIST = 2000
_PREFIX = "##"


class Checked(NamedTuple):
    """Rows and what was found out about them, `[batch]` each."""

    normalized: tf.Tensor
    """`<string>`: what TF Text makes of the row."""
    plain: tf.Tensor
    """`<bool>`: whether that is exact."""


class PlainRows(tf.Module):
    """TF Text's BERT tokenizer, which is many times faster than anything else here.

    It is right where a row has none but characters on which it and Hugging Face agree, no word
    that may be too long, and nothing that may be an added token. Regular expressions check that;
    they list characters one by one, since RE2's classes aren't Hugging Face's.

    Args:
        config: what is asked.
        special_too: whether special tokens are found in texts.
    """

    def __init__(self, config: WordPieceConfig, *, special_too: bool) -> None:
        """Compare TF Text with Hugging Face, and build it."""
        super().__init__(name="plain_rows")
        # TF Text's lower-casing also unites variants of a character, such as wide punctuation;
        # where only ASCII has capitals, its other normalizer does, behind TensorFlow's own.
        ways = (True, False) if config.normalization.lowercase else (False,)
        self._ways = [_Way(config.normalization, theirs=theirs) for theirs in ways]
        self._no_long_word = _no_long_word(config)
        self._early, self._late = _added_token_patterns(config, special_too=special_too)
        # Texts have no control characters after normalization. One such token is there always,
        # as the builder refuses a list of which nothing can be reached.
        tokens = vocabulary_list(config, hole="\x01", reachable=_reachable(config))
        self._tokenizer = tensorflow_text.FastWordpieceTokenizer(
            [*tokens, "\x01"],
            suffix_indicator=_PREFIX,
            max_bytes_per_word=2**30,
            token_out_type=tf.int32,
            unknown_token=config.unk_token,
        )

    @staticmethod
    def can_serve(config: WordPieceConfig) -> bool:
        """Say whether there are rows for it at all."""
        return (
            config.continuing_subword_prefix == _PREFIX
            and config.max_input_chars_per_word > 0
            and not any(c.isspace() for c in config.unk_token)
            and all(_core(token, config) for token in config.added_tokens)
        )

    def check(self, texts: tf.Tensor) -> Checked:
        """Say on which of `<string>[batch]` texts TF Text is exact."""
        checked = self._ways[0](texts)
        for way in self._ways[1:]:
            checked = _improved(checked, way, texts)
        normalized, plain = checked
        plain &= tf.strings.regex_full_match(texts, self._no_long_word)
        if self._early is not None:
            plain &= ~tf.strings.regex_full_match(texts, self._early)
        if self._late is not None:
            plain &= ~tf.strings.regex_full_match(normalized, self._late)
        return Checked(normalized, plain)

    def tokenize(self, normalized: tf.Tensor) -> tf.RaggedTensor:
        """Turn `<string>[batch]` that `check` gave into `<int32>[batch, (tokens)]`."""
        return self._tokenizer.tokenize(normalized)


class _Way(tf.Module):
    """One of the ways to normalize, and the characters for which it is right."""

    def __init__(self, normalization: BertNormalization, *, theirs: bool) -> None:
        super().__init__(name="way")
        self._normalizer = tensorflow_text.FastBertNormalizer(theirs)
        self._lowers_ascii = normalization.lowercase and not theirs
        self._agreed = f"[{_ranges(agreed_characters(normalization, theirs=theirs))}]*"

    def __call__(self, texts: tf.Tensor) -> Checked:
        lowered = tf.strings.lower(texts) if self._lowers_ascii else texts
        plain = tf.strings.regex_full_match(texts, self._agreed)
        return Checked(self._normalizer.normalize(lowered), plain)


def _improved(checked: Checked, way: _Way, texts: tf.Tensor) -> Checked:
    """Try another way for the rows for which there is none yet."""

    def both() -> Checked:
        normalized, plain = way(texts)
        return Checked(
            tf.where(checked.plain, checked.normalized, normalized), checked.plain | plain
        )

    return tf.cond(tf.reduce_all(checked.plain), lambda: checked, both)


@cache
def agreed_characters(normalization: BertNormalization, *, theirs: bool) -> np.ndarray:
    """Return `<int32>[...]`: code points of which TF Text and Hugging Face make the same.

    The same is: dropped, a space, or one character, the same one, which is a word by itself for
    both or for neither. Those that make two are left out, so that words don't grow, and so are
    marks that may change places.

    Args:
        normalization: what Hugging Face does.
        theirs: whether lower-casing is TF Text's, with its stripping of accents, or, if there is
            any, TensorFlow's, of ASCII alone.
    """
    candidates = np.array(_CANDIDATES)
    texts = tf.constant([chr(c).encode() for c in candidates.tolist()])
    if normalization.lowercase and not theirs:
        texts = tf.strings.lower(texts)
    normalized = tensorflow_text.FastBertNormalizer(theirs).normalize(texts).numpy()
    table = rewritings(normalization, chinese_in_spaces=False)
    entries = table.entries(candidates)
    dropped, single = table.lengths[entries] == 0, table.lengths[entries] == 1
    # The first output; of a dropped character it is another's, and isn't looked at.
    places = np.minimum(table.starts[entries], table.outputs.size - 1)
    outputs = np.where(table.outputs[places] < 0, candidates, table.outputs[places])
    kinds = np.where(dropped, _DROPPED, table.classes[places])
    written = np.array([chr(c).encode() for c in outputs.tolist()], object)
    same = (dropped | single) & (kinds == _own_classes(normalized))
    same &= dropped | (kinds == SPACE) | (written == normalized)
    if normalization.strip_accents:
        same &= dropped | (combining_order()[outputs] == 0)
    return candidates[same]


def _own_classes(normalized: np.ndarray) -> np.ndarray:
    """Return LETTER, ISOLATED, SPACE or _DROPPED of each: how TF Text splits an "a" from an "a"."""
    tokenizer = tensorflow_text.FastWordpieceTokenizer(
        ["[UNK]", "a", "##a"], token_out_type=tf.int32, max_bytes_per_word=100
    )
    meaning = {
        (0,): LETTER,
        (1, 2, 2): LETTER,
        (1, 0, 1): ISOLATED,
        (1, 1): SPACE,
        (1, 2): _DROPPED,
    }
    between = tf.strings.join(["a", tf.constant(normalized), "a"])
    found = tokenizer.tokenize(between).to_list()
    return np.array([meaning.get(tuple(ids), _OTHER) for ids in found])


def _ranges(code_points: np.ndarray) -> str:
    """Write code points, which are in order, as the inside of a regular expression's class."""
    breaks = np.flatnonzero(np.diff(code_points) > 1) + 1
    runs = np.split(code_points, breaks)
    return "".join(f"\\x{{{run[0]:x}}}-\\x{{{run[-1]:x}}}" for run in runs if run.size)


def _literal(text: str) -> str:
    return "".join(f"\\x{{{ord(c):x}}}" for c in text)


def _no_long_word(config: WordPieceConfig) -> str:
    """Return a pattern of rows in which a separator comes soon enough everywhere."""
    table = rewritings(config.normalization, chinese_in_spaces=False)
    separators = [c for c in _SEPARATORS if table.of(c)[1] in ([ISOLATED], [SPACE])]
    most = min(config.max_input_chars_per_word, _LONGEST_COUNTED)
    between = _ranges(np.array(separators))
    return f"(?:[^{between}]{{0,{most}}}[{between}])*[^{between}]{{0,{most}}}"


def _reachable(config: WordPieceConfig) -> Callable[[str], bool]:
    """Return what says whether words can have a token: one that isn't all letters can't."""
    table = rewritings(
        replace(config.normalization, clean_text=False, strip_accents=False, lowercase=False),
        chinese_in_spaces=False,
    )

    characters = sorted(set().union(*config.vocabulary))
    kinds = {c: table.of(ord(c))[1] for c in characters}
    isolated = {c for c in characters if kinds[c] == [ISOLATED]}
    not_letters = {c for c in characters if kinds[c] != [LETTER]}

    def reachable(token: str) -> bool:
        body = token.removeprefix(_PREFIX)
        return not_letters.isdisjoint(body) or token in isolated

    return reachable


def _core(token: AddedToken, config: WordPieceConfig) -> str:
    """Return a part of the token that stands in every text in which the token is found."""
    if not token.normalized:
        return token.content
    # TF Text puts no spaces around Chinese characters.
    return max(normalized_content(token, config.normalizer).split(), key=len, default="")


def _added_token_patterns(
    config: WordPieceConfig, *, special_too: bool
) -> tuple[str | None, str | None]:
    """Return patterns of texts, and of normalized ones, that may have an added token."""
    patterns: list[str | None] = []
    for normalized in (False, True):
        tokens = [token for token in config.added_tokens if token.normalized is normalized]
        if not any(special_too or not token.special for token in tokens):
            patterns.append(None)
            continue
        cores = sorted({_core(token, config) for token in tokens})
        if sum(map(len, cores)) > _LONGEST_LIST:
            cores = sorted({core[0] for core in cores})
        patterns.append(f"(?s).*(?:{'|'.join(map(_literal, cores))}).*")
    return patterns[0], patterns[1]
