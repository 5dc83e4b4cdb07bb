"""Byte-level BPE (GPT-2, RoBERTa) as TensorFlow operations."""

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
from tfllm.text.added_token_finder import AddedTokenFinder
from tfllm.text.byte_level_config import ByteLevelConfig, byte_of_letter
from tfllm.text.byte_level_words import ADDED, classify, word_starts
from tfllm.text.byte_pair_merger import BytePairMerger
from tfllm.text.code_point_classes import SPACE

__all__ = ["ROLES", "ByteLevelBPE"]

ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
# The classes of transformers, and the roles that they insist on.
_GPT2 = ("GPT2TokenizerFast", ("bos_token", "eos_token", "unk_token"))
_ROBERTA = ("RobertaTokenizerFast", ROLES)
# From each of these code points on, UTF-8 takes a byte more.
_UTF8_LIMITS = (0x80, 0x800, 0x10000)


class _Text(NamedTuple):
    """Code points of all texts, one after another, with prefix spaces put in."""

    code_points: tf.Tensor
    """`<int32>[n]`."""
    classes: tf.Tensor
    """`<uint8>[n]`."""
    segment_starts: tf.Tensor
    """`<bool>[n]`."""
    added_ids: tf.Tensor
    """`<int32>[n]`: id of the added token that starts here, or -1."""
    sources: tf.Tensor
    """`<int32>[n]`: the original code point; a prefix space shares that of its neighbour."""
    rows: tf.Tensor
    """`<int32>[n]`."""


class _Tokens(NamedTuple):
    """Tokens of all texts, one after another: `<int32>[tokens]` each."""

    ids: tf.Tensor
    words: tf.Tensor
    first_bytes: tf.Tensor
    """Where in its word each starts."""


class ByteLevelBPE(tf.Module):
    """A byte-level BPE tokenizer whose ids and offsets equal those of Hugging Face's, in graph.

    ```
    texts ─► added tokens ─► words ─► words of one token: a table
                                   └► other words, each once: merges
    ```

    The same graph runs eagerly, inside a `tf.function`, and in a SavedModel. It has no state: its
    tables are constants, and nothing is kept from one call to the next.

    Texts are UTF-8. What isn't is read as Python's `bytes.decode("utf-8", "replace")` reads it:
    one U+FFFD for each maximal part of a valid sequence. NUL is a byte like any other.

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
        InputError: the tokenizer asks for something else than byte-level BPE, or for a part of it
            that isn't done in graph; the message names it.

    Example:
        >>> tokenizer = ByteLevelBPE(hugging_face_gpt2)
        >>> tokenizer.tokenize(tf.constant(["Hello world", ""]))
        <tf.RaggedTensor [[15496, 995], []]>
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer | str,
        *,
        special_roles: Mapping[str, str] | None = None,
        special_tokens_in_text: bool = True,
    ) -> None:
        """Check the configuration and build the tables."""
        super().__init__(name="byte_level_bpe")
        text = tokenizer if isinstance(tokenizer, str) else tokenizer.to_str()
        self._config = ByteLevelConfig.from_json(text)
        self._special_tokens_in_text = special_tokens_in_text
        self._fast = tokenizers.Tokenizer.from_str(text)
        self._fast.no_truncation()
        self._fast.no_padding()
        self._fast.encode_special_tokens = not special_tokens_in_text
        self._roles = json.dumps(_checked_roles(special_roles or {}, self._fast))
        self._added = AddedTokenFinder(
            self._config.added_tokens, special_too=special_tokens_in_text
        )
        self._bytes_of_ids = tf.constant([*self._config.bytes_of_ids(), b""])
        self._whole_words = _whole_word_table(self._config, self._fast)
        self._merger = _merger(self._config)

    # ---------------------------------------------------------------- what it is

    @property
    def vocabulary_size(self) -> int:
        """One more than the highest id."""
        return self._config.vocabulary_size

    @property
    def special_roles(self) -> dict[str, str]:
        """Role, such as `bos_token` → text of the token."""
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
        """Id that fills rows; GPT-2 has none."""
        return self._role_id("pad_token")

    @property
    def mask_id(self) -> int | None:
        """Id that hides a token in masked language modelling."""
        return self._role_id("mask_token")

    @property
    def fast(self) -> tokenizers.Tokenizer:
        """Hugging Face's view of this tokenizer."""
        return self._fast

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of everything that decides ids."""
        config = self._config
        decisive = {
            "kind": "byte-level BPE 1",
            "vocabulary": sorted(config.vocabulary.items()),
            "merges": config.merges,
            "ignore_merges": config.ignore_merges,
            "added_tokens": sorted(str(token) for token in config.added_tokens),
            "add_prefix_space": config.add_prefix_space,
            "special_tokens_in_text": self._special_tokens_in_text,
            "special_roles": sorted(self.special_roles.items()),
        }
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

    @property
    def word_bytes(self) -> tf.Tensor:
        """Bytes of each id, `<string>[vocabulary_size]`; a text is those of its ids in a row."""
        return self._bytes_of_ids[:-1]

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

        The offsets are Hugging Face's, in bytes instead of characters: a token that is a part of
        a character has the offsets of the whole, and spaces are left out where the configuration
        says `trim_offsets`.

        Returns:
            ids, starts, ends: `<int32>[batch, (tokens)]` each; bytes count from the row's start.
        """
        return self._tokenize_with_offsets(tf.convert_to_tensor(texts, tf.string))

    def detokenize(self, ids: tf.RaggedTensor, *, skip_special_tokens: bool = False) -> tf.Tensor:
        """Turn `<int32>[batch, (tokens)]` into `<string>[batch]` of valid UTF-8.

        It is `fast.decode`: bytes that aren't UTF-8 become U+FFFD, and ids that no token has
        become nothing.

        Args:
            ids: the tokens.
            skip_special_tokens: whether to leave special tokens out.
        """
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.RaggedTensor.from_tensor(tf.convert_to_tensor(ids, tf.int32))
        if skip_special_tokens:
            return self._detokenize_without_special(ids)
        return self._detokenize(ids)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def _tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        decoded = tf.strings.unicode_decode(texts, "UTF-8")
        text = self._prepare(decoded)
        starts = word_starts(text.code_points, text.classes, text.segment_starts)
        begins = tf.cast(tf.reshape(tf.where(starts), [-1]), tf.int32)
        tokens = self._tokens_of_words(text, begins)
        rows = tf.gather(tf.gather(text.rows, begins), tokens.words)
        return _ragged(tokens.ids, rows, decoded)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def _tokenize_with_offsets(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        decoded, byte_starts = tf.strings.unicode_decode_with_offsets(texts, "UTF-8")
        text = self._prepare(decoded)
        starts = word_starts(text.code_points, text.classes, text.segment_starts)
        begins = tf.cast(tf.reshape(tf.where(starts), [-1]), tf.int32)
        tokens = self._tokens_of_words(text, begins)
        rows = tf.gather(tf.gather(text.rows, begins), tokens.words)
        first, end = _character_spans(text, begins, tokens)
        if self._config.trim_offsets:
            first, end = self._trim(text, begins, tokens, rows, decoded, first, end)
        row_ends = tf.cast(decoded.row_limits(), tf.int32)
        places = tf.concat([tf.cast(byte_starts.flat_values, tf.int32), [0]], 0)
        lengths = tf.gather(tf.strings.length(texts), rows)

        def to_byte(characters: tf.Tensor) -> tf.Tensor:
            at_end = characters >= tf.gather(row_ends, rows)
            return tf.where(at_end, lengths, tf.gather(places, characters))

        ids = _ragged(tokens.ids, rows, decoded)
        return ids, ids.with_flat_values(to_byte(first)), ids.with_flat_values(to_byte(end))

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)])
    def _detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        known = (ids.values >= 0) & (ids.values < self.vocabulary_size)
        pieces = tf.gather(self._bytes_of_ids, tf.where(known, ids.values, self.vocabulary_size))
        joined = tf.strings.unsorted_segment_join(
            pieces, ids.value_rowids(), tf.cast(ids.nrows(), tf.int32)
        )
        return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8")

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)])
    def _detokenize_without_special(self, ids: tf.RaggedTensor) -> tf.Tensor:
        special = tf.constant(sorted(self.special_tokens.values()), tf.int32)
        kept = tf.reduce_all(ids.values[:, None] != special, axis=1)
        return self._detokenize(tf.ragged.boolean_mask(ids, ids.with_values(kept)))

    # ---------------------------------------------------------------- steps

    def _prepare(self, decoded: tf.RaggedTensor) -> _Text:
        """Find added tokens, put prefix spaces in."""
        code_points = decoded.values
        rows = tf.cast(decoded.value_rowids(), tf.int32)
        classes = classify(code_points)
        text_starts = rows != tf.concat([[-1], rows], 0)[:-1]
        found = self._added(code_points, classes, text_starts)
        text = _Text(
            code_points=code_points,
            classes=tf.where(found.within, tf.constant(ADDED, tf.uint8), classes),
            segment_starts=found.segment_starts,
            added_ids=found.ids,
            sources=tf.range(tf.size(code_points)),
            rows=rows,
        )
        return _with_prefix_spaces(text) if self._config.add_prefix_space else text

    def _tokens_of_words(self, text: _Text, begins: tf.Tensor) -> _Tokens:
        """Turn words, of which `begins` are the first code points, into tokens."""
        words = tf.strings.unicode_encode(
            tf.RaggedTensor.from_row_starts(text.code_points, begins, validate=False), "UTF-8"
        )
        whole = self._whole_words.lookup(words)
        added = tf.gather(text.added_ids, begins)
        whole = tf.where(added >= 0, added, whole)
        split = tf.reshape(tf.where(whole < 0), [-1])
        unique, which = tf.unique(tf.gather(words, split))
        pieces = self._merger(unique)
        piece_starts = tf.cumsum(pieces.counts, exclusive=True)
        # Take each word's tokens either from the pieces or from `whole`, which stands behind them.
        index = tf.range(tf.size(words))
        at = tf.tensor_scatter_nd_update(
            tf.size(pieces.ids) + index, split[:, None], tf.gather(piece_starts, which)
        )
        counts = tf.tensor_scatter_nd_update(
            tf.ones_like(index), split[:, None], tf.gather(pieces.counts, which)
        )
        token_words = tf.repeat(index, counts)
        shift = at - tf.cumsum(counts, exclusive=True)
        source = tf.range(tf.size(token_words)) + tf.gather(shift, token_words)
        return _Tokens(
            ids=tf.gather(tf.concat([pieces.ids, whole], 0), source),
            words=token_words,
            first_bytes=tf.gather(tf.concat([pieces.first_bytes, tf.zeros_like(whole)], 0), source),
        )

    def _trim(
        self,
        text: _Text,
        begins: tf.Tensor,
        tokens: _Tokens,
        rows: tf.Tensor,
        decoded: tf.RaggedTensor,
        first: tf.Tensor,
        end: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Leave out spaces at tokens' ends, to the letter as `tokenizers` counts them.

        It moves a start by one *character* for each of the token's leading spaces, be they in the
        text or put in before it, and spares the only space of a row's first token.
        """
        leading, trailing = self._spaces_at_ends(text, begins, tokens, decoded, first, end)
        row_starts = tf.gather(tf.cast(decoded.row_starts(), tf.int32), rows)
        if self._config.trim_keeps_first_space:
            is_first = (rows != tf.concat([[-1], rows], 0)[:-1]) | (first == row_starts)
            leading = tf.where(is_first & (leading == 1), 0, leading)
        first = tf.minimum(first + leading, end)
        trimmed = tf.maximum(end - trailing, first)
        return first, tf.where(end - row_starts >= trailing, trimmed, end)

    def _spaces_at_ends(
        self,
        text: _Text,
        begins: tf.Tensor,
        tokens: _Tokens,
        decoded: tf.RaggedTensor,
        first: tf.Tensor,
        end: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Count each token's leading and trailing spaces, `<int32>[tokens]` each."""
        spelt = self._config.bytes_of_ids()
        leading = np.array([len(b) - len(b.lstrip(b" ")) for b in spelt], np.int32)
        trailing = np.array([len(b) - len(b.rstrip(b" ")) for b in spelt], np.int32)
        # An added token may have taken whitespace of any kind along: look into the text.
        is_added = tf.gather(tf.gather(text.classes, begins), tokens.words) == ADDED
        solid = tf.cast(tf.reshape(tf.where(classify(decoded.values) != SPACE), [-1]), tf.int32)
        solid = tf.concat([[-1], solid, [tf.size(decoded.values)]], 0)
        after = tf.gather(solid, tf.searchsorted(solid, first, side="left"))
        before = tf.gather(solid, tf.searchsorted(solid, end, side="left") - 1)
        return (
            tf.where(is_added, tf.minimum(after, end) - first, tf.gather(leading, tokens.ids)),
            tf.where(
                is_added, end - tf.maximum(before + 1, first), tf.gather(trailing, tokens.ids)
            ),
        )

    # ---------------------------------------------------------------- files

    def save(self, folder: str | Path) -> None:
        """Write the files from which `tfllm.text.load` and transformers read it back.

        They are `tokenizer.json`, `vocab.json`, `merges.txt`, `special_tokens_map.json` and
        `tokenizer_config.json`. Files of these names are replaced.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The tokenizer can't be saved in {folder}: {error.strerror}. Give a folder."
            ) from None
        merges = "".join(f"{left} {right}\n" for left, right in self._config.merges)
        contents = {
            "tokenizer.json": self._fast.to_str(pretty=True),
            "vocab.json": json.dumps(self._config.vocabulary, ensure_ascii=False),
            "merges.txt": "#version: 0.2\n" + merges,
            "special_tokens_map.json": json.dumps(self.special_roles, indent=2),
            "tokenizer_config.json": json.dumps(self._transformers_config(), indent=2),
        }
        for name, content in contents.items():
            unfinished = folder / f".{name}.unfinished"
            unfinished.write_text(content, encoding="utf-8", newline="\n")
            unfinished.replace(folder / name)

    def _transformers_config(self) -> dict[str, object]:
        post_processor = json.loads(self._fast.to_str())["post_processor"] or {}
        roberta = post_processor.get("type") == "RobertaProcessing"
        kind, needed = _ROBERTA if roberta else _GPT2
        if any(role not in self.special_roles for role in needed):
            # GPT-2's and RoBERTa's classes would add the tokens that are missing.
            kind = "PreTrainedTokenizerFast"
        # The classes would otherwise put their own settings in the place of the files'.
        own = {"trim_offsets": self._config.trim_offsets} if kind == _ROBERTA[0] else {}
        return {
            "tokenizer_class": kind,
            "add_prefix_space": self._config.add_prefix_space,
            **own,
            "split_special_tokens": not self._special_tokens_in_text,
            "clean_up_tokenization_spaces": False,
            **{role: self.special_roles.get(role) for role in ROLES},
        }


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
    config: ByteLevelConfig, fast: tokenizers.Tokenizer
) -> tf.lookup.StaticHashTable:
    """Map each word that is one token to it; to -1 any other."""
    letters = byte_of_letter()
    words, ids = [], []
    for content in config.vocabulary:
        if not all(letter in letters for letter in content):
            continue
        word = bytes(letters[letter] for letter in content)
        # A token may be out of reach of the merges, so they are asked.
        tokens = fast.model.tokenize(content)
        if len(tokens) == 1 and _is_utf8(word):
            words.append(word)
            ids.append(tokens[0].id)
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(np.array(words, object)), tf.constant(ids, tf.int32)
        ),
        default_value=-1,
    )


def _is_utf8(word: bytes) -> bool:
    try:
        word.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(word)


def _merger(config: ByteLevelConfig) -> BytePairMerger:
    ids = config.vocabulary
    merges = [(ids[left], ids[right], ids[left + right]) for left, right in config.merges]
    # The bytes that no UTF-8 holds may be missing; nothing asks for them.
    byte_ids = {byte: ids.get(letter, 0) for letter, byte in byte_of_letter().items()}
    return BytePairMerger(
        merges=np.array(merges, np.int32).reshape(-1, 3),
        byte_ids=np.array([byte_ids[byte] for byte in range(256)], np.int32),
        vocabulary_size=config.vocabulary_size,
        reach=max([len(left + right) for left, right in config.merges], default=1),
    )


def _with_prefix_spaces(text: _Text) -> _Text:
    """Put U+0020 before each segment of text that doesn't start with one."""
    needs = text.segment_starts & (text.classes != ADDED) & (text.code_points != ord(" "))
    sources = tf.repeat(text.sources, 1 + tf.cast(needs, tf.int32))
    second = sources == tf.concat([[-1], sources], 0)[:-1]
    is_new = tf.concat([second[1:], [False]], 0)[: tf.size(sources)]
    return _Text(
        code_points=tf.where(is_new, ord(" "), tf.gather(text.code_points, sources)),
        classes=tf.where(is_new, tf.constant(SPACE, tf.uint8), tf.gather(text.classes, sources)),
        segment_starts=tf.gather(text.segment_starts, sources) & ~second,
        added_ids=tf.gather(text.added_ids, sources),
        sources=sources,
        rows=tf.gather(text.rows, sources),
    )


def _character_spans(
    text: _Text, begins: tf.Tensor, tokens: _Tokens
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return each token's first code point and the one after its last, `<int32>[tokens]` each."""
    sizes = 1 + sum(tf.cast(text.code_points >= limit, tf.int32) for limit in _UTF8_LIMITS)
    character_of_byte = tf.repeat(text.sources, sizes)
    word_bytes = tf.gather(tf.cumsum(sizes, exclusive=True), begins)
    starts = tf.gather(word_bytes, tokens.words) + tokens.first_bytes
    ends = tf.concat([starts[1:], [tf.size(character_of_byte)]], 0)[: tf.size(starts)]
    return (
        tf.gather(character_of_byte, starts),
        tf.gather(character_of_byte, ends - 1) + 1,
    )


def _ragged(values: tf.Tensor, rows: tf.Tensor, decoded: tf.RaggedTensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_value_rowids(
        values, tf.cast(rows, tf.int64), decoded.nrows(), validate=False
    )
