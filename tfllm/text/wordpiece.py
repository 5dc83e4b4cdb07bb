"""WordPiece (BERT) as TensorFlow operations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tokenizers

from tfllm.errors import InputError
from tfllm.text.bert_words import BertWords, Words
from tfllm.text.byte_level_bpe import ROLES
from tfllm.text.wordpiece_config import WordPieceConfig
from tfllm.text.wordpiece_matcher import WordPieceMatcher, WordPieces
from tfllm.text.wordpiece_rows import PlainRows

__all__ = ["WordPiece"]

# The roles that transformers' BERT class insists on.
_BERT = ("BertTokenizerFast", ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token"))
# From each of these code points on, UTF-8 takes a byte more.
_UTF8_LIMITS = (0x80, 0x800, 0x10000)


class _Tokens(NamedTuple):
    """Tokens of all texts, one after another: `<int32>[tokens]` each."""

    ids: tf.Tensor
    of_words: tf.Tensor
    rows: tf.Tensor


class WordPiece(tf.Module):
    """A WordPiece tokenizer whose ids and offsets equal those of Hugging Face's, in graph.

    ```
    texts ─► rows on which TF Text is exact: TF Text's BERT tokenizer
          └► other rows: added tokens ─► characters by tables ─► words ─► longest pieces
    ```

    The same graph runs eagerly, inside a `tf.function`, and in a SavedModel. It has no state: its
    tables are constants, and nothing is kept from one call to the next. It needs TF Text's ops.

    Texts are UTF-8. What isn't is read as Python's `bytes.decode("utf-8", "replace")` reads it:
    one U+FFFD for each maximal part of a valid sequence.

    By default special tokens written in a text are recognised, as by
    `fast.encode(text, add_special_tokens=False)`; no special tokens are added. With
    `special_tokens_in_text=False` they are plain text; transformers says that with
    `split_special_tokens=True`, and `tokenizers` with `encode_special_tokens = True`. Texts from
    strangers want that.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or the JSON of one. It is copied, without its
            truncation and padding.
        special_roles: text of the token for each role that there is: `bos_token`, `eos_token`,
            `unk_token`, `sep_token`, `pad_token`, `cls_token`, `mask_token`.
        special_tokens_in_text: whether special tokens written in a text are recognised.

    Raises:
        InputError: the tokenizer asks for something else than BERT's WordPiece, or for a part of
            it that isn't done in graph; the message names it.

    Example:
        >>> tokenizer = WordPiece(hugging_face_bert_base_uncased)
        >>> tokenizer.tokenize(tf.constant(["Hello wordpieces", ""]))
        <tf.RaggedTensor [[7592, 2773, 11198, 2015], []]>
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer | str,
        *,
        special_roles: Mapping[str, str] | None = None,
        special_tokens_in_text: bool = True,
    ) -> None:
        """Check the configuration and build the tables."""
        super().__init__(name="wordpiece")
        text = tokenizer if isinstance(tokenizer, str) else tokenizer.to_str()
        config = WordPieceConfig.from_json(text)
        self._config = config
        self._special_tokens_in_text = special_tokens_in_text
        self._fast = tokenizers.Tokenizer.from_str(text)
        self._fast.no_truncation()
        self._fast.no_padding()
        self._fast.encode_special_tokens = not special_tokens_in_text
        self._roles = json.dumps(_checked_roles(special_roles or {}, self._fast))
        self._words = BertWords(
            config.normalization,
            config.added_tokens,
            special_too=special_tokens_in_text,
            normalizer=config.normalizer,
        )
        self._matcher = WordPieceMatcher(config)
        self._plain_rows = None
        if PlainRows.can_serve(config):
            self._plain_rows = PlainRows(config, special_too=special_tokens_in_text)
        spelt = _Spelling.of(self._fast, config.vocabulary_size)
        self._first_texts, self._later_texts = tf.constant(spelt.first), tf.constant(spelt.later)
        self._has_text = tf.constant(spelt.known)

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
        """Id that starts a document; BERT has none, see `cls_id`."""
        return self._role_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        """Id that ends a document; BERT has none, see `sep_id`."""
        return self._role_id("eos_token")

    @property
    def pad_id(self) -> int | None:
        """Id that fills rows."""
        return self._role_id("pad_token")

    @property
    def mask_id(self) -> int | None:
        """Id that hides a token in masked language modelling."""
        return self._role_id("mask_token")

    @property
    def cls_id(self) -> int | None:
        """Id that stands first and whose output stands for the whole row."""
        return self._role_id("cls_token")

    @property
    def sep_id(self) -> int | None:
        """Id that ends each text of a row."""
        return self._role_id("sep_token")

    @property
    def fast(self) -> tokenizers.Tokenizer:
        """Hugging Face's view of this tokenizer."""
        return self._fast

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of everything that decides ids."""
        config = self._config
        decisive = {
            "kind": "WordPiece 1",
            "vocabulary": sorted(config.vocabulary.items()),
            "unk_token": config.unk_token,
            "continuing_subword_prefix": config.continuing_subword_prefix,
            "max_input_chars_per_word": config.max_input_chars_per_word,
            "normalization": str(config.normalization),
            "added_tokens": sorted(str(token) for token in config.added_tokens),
            "special_tokens_in_text": self._special_tokens_in_text,
            "special_roles": sorted(self.special_roles.items()),
        }
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

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

        The offsets are Hugging Face's, in bytes instead of characters: of the original text, with
        the characters between that normalization drops.

        Returns:
            ids, starts, ends: `<int32>[batch, (tokens)]` each; bytes count from the row's start.
        """
        return self._tokenize_with_offsets(tf.convert_to_tensor(texts, tf.string))

    def detokenize(self, ids: tf.RaggedTensor, *, skip_special_tokens: bool = False) -> tf.Tensor:
        """Turn `<int32>[batch, (tokens)]` into `<string>[batch]` of valid UTF-8.

        It is `fast.decode`: pieces are joined, words get a space between them, the decoder's clean
        up is done, and ids that no token has become nothing.

        Args:
            ids: the tokens.
            skip_special_tokens: whether to leave special tokens out.
        """
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.RaggedTensor.from_tensor(tf.convert_to_tensor(ids, tf.int32))
        if skip_special_tokens:
            return self._detokenize_without_special(ids)
        return self._detokenize(ids)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def _tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        plain_rows = self._plain_rows
        if plain_rows is None:
            return self._tokenize_by_tables(texts)
        normalized, plain = plain_rows.check(texts)
        values, splits = tf.cond(
            tf.reduce_all(plain),
            lambda: _parts(plain_rows.tokenize(normalized)),
            lambda: self._tokenize_both_ways(plain_rows, texts, normalized, plain),
        )
        return tf.RaggedTensor.from_row_splits(values, splits, validate=False)

    def _tokenize_both_ways(
        self, plain_rows: PlainRows, texts: tf.Tensor, normalized: tf.Tensor, plain: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        easy, hard = tf.reshape(tf.where(plain), [-1]), tf.reshape(tf.where(~plain), [-1])
        tokens = tf.concat(
            [
                plain_rows.tokenize(tf.gather(normalized, easy)),
                self._tokenize_by_tables(tf.gather(texts, hard)),
            ],
            0,
        )
        places = tf.math.invert_permutation(tf.concat([easy, hard], 0))
        return _parts(tf.gather(tokens, places))

    def _tokenize_by_tables(self, texts: tf.Tensor) -> tf.RaggedTensor:
        decoded = tf.strings.unicode_decode(texts, "UTF-8")
        words = self._words_of(decoded)
        tokens, _ = self._tokens_of(words, decoded)
        return _ragged(tokens.ids, tokens.rows, decoded)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def _tokenize_with_offsets(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        decoded, byte_starts = tf.strings.unicode_decode_with_offsets(texts, "UTF-8")
        words = self._words_of(decoded)
        tokens, pieces = self._tokens_of(words, decoded)
        first, last = _character_spans(words, tokens, pieces)
        row_ends = tf.cast(decoded.row_limits(), tf.int32)
        places = tf.concat([tf.cast(byte_starts.flat_values, tf.int32), [0]], 0)
        at_end = last + 1 >= tf.gather(row_ends, tokens.rows)
        lengths = tf.gather(tf.strings.length(texts), tokens.rows)
        ids = _ragged(tokens.ids, tokens.rows, decoded)
        return (
            ids,
            ids.with_flat_values(tf.gather(places, first)),
            ids.with_flat_values(tf.where(at_end, lengths, tf.gather(places, last + 1))),
        )

    @tf.function(autograph=False, input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)])
    def _detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        known = (ids.values >= 0) & (ids.values < self.vocabulary_size)
        known &= tf.gather(self._has_text, tf.where(known, ids.values, 0))
        ids = tf.ragged.boolean_mask(ids, ids.with_values(known))
        rows = ids.value_rowids()
        is_first = rows != tf.concat([[tf.constant(-1, rows.dtype)], rows], 0)[:-1]
        pieces = tf.where(
            is_first,
            tf.gather(self._first_texts, ids.values),
            tf.gather(self._later_texts, ids.values),
        )
        return tf.strings.unsorted_segment_join(pieces, rows, tf.cast(ids.nrows(), tf.int32))

    @tf.function(autograph=False, input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)])
    def _detokenize_without_special(self, ids: tf.RaggedTensor) -> tf.Tensor:
        special = tf.constant(sorted(self.special_tokens.values()), tf.int32)
        kept = tf.reduce_all(ids.values[:, None] != special, axis=1)
        return self._detokenize(tf.ragged.boolean_mask(ids, ids.with_values(kept)))

    # ---------------------------------------------------------------- steps

    def _words_of(self, decoded: tf.RaggedTensor) -> Words:
        rows = decoded.value_rowids()
        text_starts = rows != tf.concat([[tf.constant(-1, rows.dtype)], rows], 0)[:-1]
        return self._words(decoded.values, text_starts)

    def _tokens_of(self, words: Words, decoded: tf.RaggedTensor) -> tuple[_Tokens, WordPieces]:
        """Split words into pieces; those of added tokens and of overlong words are the whole."""
        spelt = tf.strings.unicode_encode(
            tf.RaggedTensor.from_row_starts(words.code_points, words.begins, validate=False),
            "UTF-8",
        )
        ends = tf.concat([words.begins[1:], [tf.size(words.code_points)]], 0)
        lengths = ends[: tf.size(words.begins)] - words.begins
        is_added = words.added_ids >= 0
        pieces = self._matcher(spelt, is_added | (lengths > self._config.max_input_chars_per_word))
        of_words = _owners(pieces.counts)
        added = tf.gather(words.added_ids, of_words)
        rows = tf.cast(decoded.value_rowids(), tf.int32)
        rows_of_words = tf.gather(rows, tf.gather(words.sources, words.begins))
        tokens = _Tokens(
            ids=tf.where(added >= 0, added, pieces.ids),
            of_words=of_words,
            rows=tf.gather(rows_of_words, of_words),
        )
        return tokens, pieces

    # ---------------------------------------------------------------- files

    def save(self, folder: str | Path) -> None:
        """Write the files from which `tfllm.text.load` and transformers read it back.

        They are `tokenizer.json`, `special_tokens_map.json`, `tokenizer_config.json` and, if ids
        follow one another without a gap, `vocab.txt`. Files of these names are replaced.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The tokenizer can't be saved in {folder}: {error.strerror}. Give a folder."
            ) from None
        contents = {
            "tokenizer.json": self._fast.to_str(pretty=True),
            "special_tokens_map.json": json.dumps(self.special_roles, indent=2),
            "tokenizer_config.json": json.dumps(self._transformers_config(), indent=2),
        }
        in_order = sorted(self._config.vocabulary, key=self._config.vocabulary.__getitem__)
        if self._config.vocabulary[in_order[-1]] == len(in_order) - 1:
            contents["vocab.txt"] = "".join(f"{token}\n" for token in in_order)
        for name, content in contents.items():
            unfinished = folder / f".{name}.unfinished"
            unfinished.write_text(content, encoding="utf-8", newline="\n")
            unfinished.replace(folder / name)

    def _transformers_config(self) -> dict[str, object]:
        state = json.loads(self._fast.to_str())
        kind, needed = _BERT
        if state["normalizer"] is None or any(role not in self.special_roles for role in needed):
            # BERT's class would add the tokens that are missing, and needs the normalizer.
            kind = "PreTrainedTokenizerFast"
        normalizer = state["normalizer"] or {}
        return {
            "tokenizer_class": kind,
            # The class would otherwise put its own settings in the place of the files'.
            "do_lower_case": normalizer.get("lowercase", False),
            "strip_accents": normalizer.get("strip_accents", False),
            "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", False),
            "split_special_tokens": not self._special_tokens_in_text,
            "clean_up_tokenization_spaces": False,
            **{role: self.special_roles.get(role) for role in ROLES},
        }


class _Spelling(NamedTuple):
    """What each id is decoded to: first of a text, and behind other tokens."""

    first: np.ndarray
    later: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, fast: tokenizers.Tokenizer, vocabulary_size: int) -> _Spelling:
        """Ask the decoder, which sees one token at a time but for whether it is the first."""
        tokens = [fast.id_to_token(i) for i in range(vocabulary_size)]
        known = np.array([token is not None for token in tokens])
        join = " ".join if fast.decoder is None else fast.decoder.decode
        texts = [
            [join([*before, token]).encode() if token is not None else b"" for token in tokens]
            for before in ([], [""])
        ]
        return cls(np.array(texts[0], object), np.array(texts[1], object), known)


def _checked_roles(roles: Mapping[str, str], fast: tokenizers.Tokenizer) -> dict[str, str]:
    for role, token in roles.items():
        if role not in ROLES:
            raise InputError(f"{role!r} is no role of a special token. Known: {', '.join(ROLES)}.")
        if fast.token_to_id(token) is None:
            raise InputError(
                f"The {role} {token!r} isn't in the vocabulary: add it, or name another."
            )
    return dict(roles)


def _owners(counts: tf.Tensor) -> tf.Tensor:
    """Repeat each place as often as `counts` says, which is once at least."""
    ends = tf.cumsum(counts)
    total = tf.reduce_sum(counts)
    marks = tf.tensor_scatter_nd_add(
        tf.zeros([total], tf.int32), (ends - counts)[:, None], tf.ones_like(counts)
    )
    return tf.cumsum(marks) - 1


def _character_spans(
    words: Words, tokens: _Tokens, pieces: WordPieces
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return each token's first and last code point of the texts, `<int32>[tokens]` each."""
    sizes = 1 + sum(tf.cast(words.code_points >= limit, tf.int32) for limit in _UTF8_LIMITS)
    source_of_byte = tf.gather(words.sources, _owners(sizes))
    word_bytes = tf.gather(tf.cumsum(sizes, exclusive=True), words.begins)
    begin = tf.gather(word_bytes, tokens.of_words)
    return (
        tf.gather(source_of_byte, begin + pieces.starts),
        tf.gather(source_of_byte, begin + pieces.ends - 1),
    )


def _parts(ragged: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    return ragged.values, tf.cast(ragged.row_splits, tf.int64)


def _ragged(values: tf.Tensor, rows: tf.Tensor, decoded: tf.RaggedTensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_value_rowids(
        values, tf.cast(rows, tf.int64), decoded.nrows(), validate=False
    )
