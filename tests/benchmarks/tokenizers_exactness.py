"""Ids and offsets of a tokenizer in graph against those of transformers' fast one."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from tokenizers_texts import corpora, ours, theirs

ROWS_OF_A_BATCH = 2000
SHOWN = 3
# From each of these characters on, UTF-8 takes a byte more.
UTF8_LIMITS = (0x80, 0x800, 0x10000)


class Tokens(NamedTuple):
    """Tokens of all texts of a batch, one after another."""

    splits: np.ndarray
    """`<int64>[texts + 1]`: the first token of each text."""
    columns: np.ndarray
    """`<int64>[3, tokens]`: ids, first bytes and the bytes after the last; or ids alone."""

    def same_as(self, other: Tokens) -> bool:
        """Whether all is equal."""
        return np.array_equal(self.splits, other.splits) and np.array_equal(
            self.columns, other.columns
        )

    def of(self, text: int) -> list[list[int]]:
        """Columns of one text."""
        return self.columns[:, self.splits[text] : self.splits[text + 1]].tolist()


def mismatches(name: str, random_strings: int) -> dict[str, dict[str, int]]:
    """Count, for each corpus, the texts and those whose ids or offsets differ."""
    graph, fast = ours(name), theirs(name)
    found = {}
    for corpus, texts in corpora(fast, random_strings):
        counts = {"texts": len(texts), "ids": 0, "offsets": 0}
        for first in range(0, len(texts), ROWS_OF_A_BATCH):
            ids, offsets = compare(graph, fast, texts[first : first + ROWS_OF_A_BATCH])
            for text in (ids + offsets)[: max(0, SHOWN - counts["ids"] - counts["offsets"])]:
                print(f"{name}, {corpus}: {text[:200]!a} differs", file=sys.stderr)
            counts["ids"] += len(ids)
            counts["offsets"] += len(offsets)
        found[corpus] = counts
    return found


def compare(graph: Any, fast: Any, texts: list[str]) -> tuple[list[str], list[str]]:
    """Give the texts whose ids differ, with or without offsets asked for, and whose offsets do."""
    import tensorflow as tf

    batch = tf.constant([text.encode() for text in texts])
    wanted = hugging_face(fast, texts)
    given, alone = in_graph(*graph.tokenize_with_offsets(batch)), in_graph(graph.tokenize(batch))
    if given.same_as(wanted) and alone.same_as(Tokens(wanted.splits, wanted.columns[:1])):
        return [], []
    ids, offsets = [], []
    for i, text in enumerate(texts):
        if not wanted.of(i)[0] == given.of(i)[0] == alone.of(i)[0]:
            ids.append(text)
        if wanted.of(i)[1:] != given.of(i)[1:]:
            offsets.append(text)
    return ids, offsets


def in_graph(*columns: Any) -> Tokens:
    """Take ragged tensors apart; the splits of all of them must be the same."""
    splits = [column.row_splits.numpy() for column in columns]
    assert all(np.array_equal(splits[0], other) for other in splits)
    return Tokens(splits[0], np.array([column.flat_values.numpy() for column in columns], np.int64))


def hugging_face(fast: Any, texts: list[str]) -> Tokens:
    """Encode, and turn offsets in characters into offsets in bytes."""
    encodings = fast.encode_batch(texts, add_special_tokens=False)
    sizes = [len(encoding) for encoding in encodings]
    ids = np.array([i for encoding in encodings for i in encoding.ids], np.int64)
    spans = [span for encoding in encodings for span in encoding.offsets]
    characters = np.array(spans, np.int64).reshape(-1, 2).T
    places, firsts = byte_places(texts)
    of_texts = np.repeat(firsts, sizes)
    starts, ends = places[characters + of_texts] - places[of_texts]
    return Tokens(np.cumsum([0, *sizes]), np.array([ids, starts, ends]))


def byte_places(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where in UTF-8 each character of all texts starts, and each text's first character."""
    characters = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    sizes = 1 + sum((characters >= limit).astype(np.int64) for limit in UTF8_LIMITS)
    firsts = np.cumsum([0, *map(len, texts[:-1])])
    return np.concatenate([[0], np.cumsum(sizes)]), firsts
