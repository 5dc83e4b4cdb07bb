"""SentencePiece (ALBERT, XLNet, XLM-RoBERTa) as TensorFlow operations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tokenizers
from tokenizers import models

from tfllm.errors import InputError
from tfllm.text.byte_level_bpe import ROLES
from tfllm.text.sentencepiece_config import SPACE_SIGN, SentencePieceConfig
from tfllm.text.sentencepiece_files import tokenizer_json, transformers_config
from tfllm.text.sentencepiece_merger import SentencePieceMerger
from tfllm.text.sentencepiece_words import SentencePieceWords, Words
from tfllm.text.unigram_splitter import UnigramSplitter

__all__ = ["SentencePiece"]


class _Tokens(NamedTuple):
    """Tokens of all texts, one after another: `<int32>[tokens]` each."""

    ids: tf.Tensor
    rows: tf.Tensor
    firsts: tf.Tensor
    """The code point that each starts with, among those of all words."""
    lasts: tf.Tensor


class SentencePiece(tf.Module):
    """A SentencePiece tokenizer whose ids and offsets equal those of Hugging Face's, in graph.

    ```
    texts ─► added tokens ─► normalizer ─► words ─► words of one token: a table
                                                 └► other words, each once: Viterbi, or merges
    ```

    The model is Unigram or BPE. The same graph runs eagerly, inside a `tf.function`, and in a
    SavedModel. It has no state: its tables are constants, and nothing is kept from one call to the
    next.

    What equals is Hugging Face's *fast* tokenizer, which is not always what Google's
    `sentencepiece` gives: it looks for added tokens first, of which ALBERT has `.` and `-` too,
    puts a space before whatever follows one, and normalizes graphemes in a way of its own.

    Texts are UTF-8. What isn't is read as Python's `bytes.decode("utf-8", "replace")` reads it:
    one U+FFFD for each maximal part of a valid sequence.

    By default special tokens written in a text are recognised, as by
    `fast.encode(text, add_special_tokens=False)`; no special tokens are added. With
    `special_tokens_in_text=False` they are plain text; transformers says that with
    `split_special_tokens=True`, and `tokenizers` with `encode_special_tokens = True`. Texts from
    strangers want that, but it isn't enough here: a special token that is also a piece of the
    model, as XLM-RoBERTa's `</s>` is, is then still found by the model, as by `tokenizers`.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or the JSON of one. It is copied, without its
            truncation and padding.
        special_roles: text of the token for each role that there is: `bos_token`, `eos_token`,
            `unk_token`, `sep_token`, `pad_token`, `cls_token`, `mask_token`.
        special_tokens_in_text: whether special tokens written in a text are recognised.

    Raises:
        InputError: the tokenizer asks for something else than SentencePiece, or for a part of it
            that isn't done in graph; the message names it.

    Example:
        >>> tokenizer = SentencePiece(hugging_face_albert)
        >>> tokenizer.tokenize(tf.constant(["Hello world", ""]))
        <tf.RaggedTensor [[10975, 126], []]>
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer | str,
        *,
        special_roles: Mapping[str, str] | None = None,
        special_tokens_in_text: bool = True,
    ) -> None:
        """Check the configuration and build the tables."""
        super().__init__(name="sentencepiece")
        config, fast = _config_and_copy(tokenizer)
        self._config, self._fast = config, fast
        self._special_tokens_in_text = special_tokens_in_text
        fast.encode_special_tokens = not special_tokens_in_text
        self._roles = json.dumps(_checked_roles(special_roles or {}, fast))
        self._words = SentencePieceWords(config, fast, special_too=special_tokens_in_text)
        self._whole_words = _whole_word_table(config, fast)
        self._splitter = (
            UnigramSplitter(config.pieces, config.unknown_id)
            if config.is_unigram
            else SentencePieceMerger(config)
        )
        texts = [fast.id_to_token(i) for i in range(config.vocabulary_size)]
        self._has_text = np.array([text is not None for text in texts])
        later = [(text or "").replace(SPACE_SIGN, " ") for text in texts]
        first = [(text or "").replace(SPACE_SIGN, "") for text in texts]
        self._first_texts = tf.constant(first if config.drops_first_space else later)
        self._later_texts = tf.constant(later)

    # ---------------------------------------------------------------- what it is

    @property
    def vocabulary_size(self) -> int:
        """One more than the highest id."""
        return self._config.vocabulary_size

    @property
    def special_roles(self) -> dict[str, str]:
        """Role, such as `cls_token` → text of the token."""
        return json.loads(self._roles)

    @property
    def special_tokens(self) -> dict[str, int]:
        """Text of each special token → id."""
        return {t.content: t.id for t in self._config.added_tokens if t.special}

    @property
    def special_tokens_in_text(self) -> bool:
        """Whether special tokens written in a text are recognised."""
        return self._special_tokens_in_text

    @property
    def bos_id(self) -> int | None:
        """Id that starts a document."""
        return self._role_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        """Id that ends a document."""
        return self._role_id("eos_token")

    @property
    def pad_id(self) -> int | None:
        """Id that fills rows."""
        return self._role_id("pad_token")

    @property
    def cls_id(self) -> int | None:
        """Id of the token that stands for a whole text."""
        return self._role_id("cls_token")

    @property
    def sep_id(self) -> int | None:
        """Id that ends each text of a pair."""
        return self._role_id("sep_token")

    @property
    def mask_id(self) -> int | None:
        """Id that hides a token in masked language modelling."""
        return self._role_id("mask_token")

    @property
    def unknown_id(self) -> int:
        """Id of what the vocabulary doesn't know."""
        return self._config.unknown_id

    @property
    def fast(self) -> tokenizers.Tokenizer:
        """Hugging Face's view of this tokenizer."""
        return self._fast

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of everything that decides ids."""
        config = self._config
        decisive = {
            "kind": "SentencePiece 1",
            "model": config.model,
            "normalizer": config.normalizer,
            "added_tokens": sorted(str(token) for token in config.added_tokens),
            "splits_whitespace": config.splits_whitespace,
            "prefix": config.prefix,
            "splits_words": config.splits_words,
            "special_tokens_in_text": self._special_tokens_in_text,
            "special_roles": sorted(self.special_roles.items()),
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def _role_id(self, role: str) -> int | None:
        token = self.special_roles.get(role)
        return None if token is None else self._fast.token_to_id(token)

    # ---------------------------------------------------------------- text to ids and back

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Turn `<string>[batch]` of UTF-8 into `<int32>[batch, (tokens)]`."""
        return self._tokenize(tf.convert_to_tensor(texts, tf.string))

    def tokenize_with_offsets(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Like `tokenize`, with each token's first byte and the byte after its last.

        The offsets are Hugging Face's, in bytes instead of characters: a space that was put in
        has those of what it stands before, a part of a character those of the whole, and what the
        normalizer removed belongs to no token.

        Returns:
            ids, starts, ends: `<int32>[batch, (tokens)]` each; bytes count from the row's start.
        """
        return self._tokenize_with_offsets(tf.convert_to_tensor(texts, tf.string))

    def detokenize(self, ids: tf.RaggedTensor, *, skip_special_tokens: bool = False) -> tf.Tensor:
        """Turn `<int32>[batch, (tokens)]` into `<string>[batch]` of valid UTF-8.

        It is `fast.decode`: the spaces of the first token are left out, and ids that no token has
        become nothing. What the normalizer did isn't undone.

        Args:
            ids: the tokens.
            skip_special_tokens: whether to leave special tokens out.
        """
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.RaggedTensor.from_tensor(tf.convert_to_tensor(ids, tf.int32))
        if skip_special_tokens:
            return self._detokenize_without_special(ids)
        return self._detokenize(ids)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def _tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        # One graph serves both, and is built once; what isn't used of it isn't run.
        ids, _, _ = self._tokenize_with_offsets(texts)
        return ids

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def _tokenize_with_offsets(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        words = self._words(texts)
        tokens = self._tokens_of_words(words)
        ids = _ragged(tokens.ids, tokens.rows, texts)
        starts = tf.gather(words.first_bytes, tokens.firsts)
        ends = tf.gather(words.end_bytes, tokens.lasts)
        return ids, ids.with_flat_values(starts), ids.with_flat_values(ends)

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)], autograph=False)
    def _detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        known = (ids.values >= 0) & (ids.values < self.vocabulary_size)
        known &= tf.gather(tf.constant(self._has_text), tf.where(known, ids.values, 0))
        ids = tf.ragged.boolean_mask(ids, ids.with_values(known))
        rows = tf.cast(ids.value_rowids(), tf.int32)
        is_first = rows != tf.concat([[-1], rows], 0)[:-1]
        texts = tf.where(
            is_first,
            tf.gather(self._first_texts, ids.values),
            tf.gather(self._later_texts, ids.values),
        )
        return tf.strings.unsorted_segment_join(texts, rows, tf.cast(ids.nrows(), tf.int32))

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)], autograph=False)
    def _detokenize_without_special(self, ids: tf.RaggedTensor) -> tf.Tensor:
        special = tf.constant(sorted(self.special_tokens.values()), tf.int32)
        kept = tf.reduce_all(ids.values[:, None] != special, axis=1)
        return self._detokenize(tf.ragged.boolean_mask(ids, ids.with_values(kept)))

    # ---------------------------------------------------------------- steps

    def _tokens_of_words(self, words: Words) -> _Tokens:
        whole = self._whole_words.lookup(words.texts)
        whole = tf.where(words.added_ids >= 0, words.added_ids, whole)
        split = tf.reshape(tf.where(whole < 0), [-1])
        unique, which = tf.unique(tf.gather(words.texts, split))
        pieces = self._splitter.split(unique)
        piece_starts = tf.cumsum(pieces.counts, exclusive=True)
        # Take each word's tokens either from the pieces or from `whole`, which stands behind them.
        index = tf.range(tf.size(whole))
        at = tf.tensor_scatter_nd_update(
            tf.size(pieces.ids) + index, split[:, None], tf.gather(piece_starts, which)
        )
        counts = tf.tensor_scatter_nd_update(
            tf.ones_like(index), split[:, None], tf.gather(pieces.counts, which)
        )
        token_words = tf.repeat(index, counts)
        shift = at - tf.cumsum(counts, exclusive=True)
        source = tf.range(tf.size(token_words)) + tf.gather(shift, token_words)
        nexts = tf.concat([words.begins[1:], [tf.size(words.first_bytes)]], 0)
        last_in_word = nexts[: tf.size(whole)] - words.begins - 1
        begins = tf.gather(words.begins, token_words)
        firsts = tf.concat([pieces.firsts, tf.zeros_like(whole)], 0)
        lasts = tf.concat([pieces.lasts, last_in_word], 0)
        return _Tokens(
            ids=tf.gather(tf.concat([pieces.ids, whole], 0), source),
            rows=tf.gather(words.rows, token_words),
            firsts=begins + tf.gather(firsts, source),
            lasts=begins + tf.gather(lasts, source),
        )

    # ---------------------------------------------------------------- files

    def save(self, folder: str | Path) -> None:
        """Write the files from which `tfllm.text.load` and transformers read it back.

        They are `tokenizer.json`, `special_tokens_map.json` and `tokenizer_config.json`. Files of
        these names are replaced.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The tokenizer can't be saved in {folder}: {error.strerror}. Give a folder."
            ) from None
        settings = transformers_config(
            self.special_roles, special_tokens_in_text=self._special_tokens_in_text
        )
        contents = {
            "tokenizer.json": tokenizer_json(self._fast),
            "special_tokens_map.json": json.dumps(self.special_roles, indent=2),
            "tokenizer_config.json": json.dumps(settings, indent=2),
        }
        for name, content in contents.items():
            unfinished = folder / f".{name}.unfinished"
            unfinished.write_text(content, encoding="utf-8", newline="\n")
            unfinished.replace(folder / name)


def _config_and_copy(
    tokenizer: tokenizers.Tokenizer | str,
) -> tuple[SentencePieceConfig, tokenizers.Tokenizer]:
    """Check the configuration, and copy the tokenizer to the last bit of its scores."""
    if isinstance(tokenizer, str):
        SentencePieceConfig.from_json(tokenizer)
        tokenizer = tokenizers.Tokenizer.from_str(tokenizer)
    text = tokenizer.to_str()
    config = SentencePieceConfig.from_json(text)
    copy = tokenizers.Tokenizer.from_str(text)
    if config.is_unigram:
        # `tokenizers` rounds a quarter of all scores wrongly when it reads JSON; Python doesn't.
        copy.model = models.Unigram(config.pieces, config.unknown_id, False)
    copy.no_truncation()
    copy.no_padding()
    return config, copy


def _checked_roles(roles: Mapping[str, str], fast: tokenizers.Tokenizer) -> dict[str, str]:
    for role, token in roles.items():
        if role not in ROLES:
            raise InputError(f"{role!r} is no role of a special token. Known: {', '.join(ROLES)}.")
        if fast.token_to_id(token) is None:
            raise InputError(
                f"The {role} {token!r} isn't in the vocabulary: add it, or name another."
            )
    return dict(roles)


def _whole_word_table(
    config: SentencePieceConfig, fast: tokenizers.Tokenizer
) -> tf.lookup.StaticHashTable:
    """Map each word that is one token to it; to -1 any other."""
    words, ids = [], []
    for text in dict(config.pieces):
        # A piece may lose against a split of itself, so the model is asked.
        tokens = fast.model.tokenize(text)
        if len(tokens) == 1:
            words.append(text.encode())
            ids.append(tokens[0].id)
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(np.array(words, object)), tf.constant(ids, tf.int32)
        ),
        default_value=-1,
    )


def _ragged(values: tf.Tensor, rows: tf.Tensor, texts: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_value_rowids(
        values,
        tf.cast(rows, tf.int64),
        tf.size(texts, out_type=tf.int64),
        validate=False,
    )
