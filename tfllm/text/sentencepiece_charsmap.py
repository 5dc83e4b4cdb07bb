"""SentencePiece's table of normalizations, as its model files hold it."""

from __future__ import annotations

import numpy as np

from tfllm.errors import InputError

__all__ = ["LONGEST_KEY", "pack_charsmap", "read_charsmap"]

LONGEST_KEY = 5
"""In bytes of UTF-8. `tokenizers` asks about single code points, and about whole graphemes of up to
five bytes, so longer keys are without effect."""

# A node of the double array is 32 bits:
#   0–7    the byte that leads here; bit 31 is clear in nodes and set in values
#   8      whether a key ends here: its value then lies at the children's base
#   9      whether the distance to the children is counted in 256s
#   10–30  that distance: children lie at (place xor distance) xor byte
_LABEL = np.uint32(0x800000FF)
_VALUE = np.uint32(0x7FFFFFFF)


def read_charsmap(blob: bytes) -> dict[str, str]:
    """Return each text that is replaced → its replacement, if it is no longer than `LONGEST_KEY`.

    Args:
        blob: `precompiled_charsmap`: the size of a double-array trie in bytes, the trie, and the
            replacements, each ended by a NUL.

    Raises:
        InputError: it isn't such a table.
    """
    try:
        size = int.from_bytes(blob[:4], "little")
        if size == 0 or size % 4 or 4 + size > len(blob):
            raise ValueError(f"a trie of {size} bytes in a table of {len(blob)}")
        units = np.frombuffer(blob[4 : 4 + size], "<u4")
        keys, values = _walk(units)
        return {
            key.decode(): _text_at(blob[4 + size :], value)
            for key, value in zip(keys, values, strict=True)
        }
    except (ValueError, IndexError) as error:
        raise InputError(
            f"The tokenizer's `precompiled_charsmap` can't be read: {error}. Get the file anew."
        ) from None


def _text_at(texts: bytes, begin: int) -> str:
    return texts[begin : texts.index(b"\0", begin)].decode()


def _walk(units: np.ndarray) -> tuple[list[bytes], list[int]]:
    """Visit the trie level by level, all nodes of one at a time."""
    keys: list[bytes] = []
    values: list[int] = []
    labels = np.arange(1, 256, dtype=np.int64)
    bases, prefixes = _distance(units[:1]), [b""]
    for _ in range(LONGEST_KEY):
        places = bases[:, None] ^ labels
        found = np.where(places < len(units), units[np.minimum(places, len(units) - 1)], 0)
        parents, which = np.nonzero((found & _LABEL) == labels.astype(np.uint32))
        nodes = found[parents, which]
        bases = places[parents, which] ^ _distance(nodes)
        prefixes = [
            prefixes[parent] + bytes([labels[label]])
            for parent, label in zip(parents, which, strict=True)
        ]
        ends = (nodes >> np.uint32(8)) & np.uint32(1) == 1
        keys += [prefixes[i] for i in np.nonzero(ends)[0]]
        values += (units[bases[ends]] & _VALUE).tolist()
    return keys, values


def _distance(units: np.ndarray) -> np.ndarray:
    wide = units.astype(np.int64)
    return (wide >> 10) << ((wide & 0x200) >> 6)


def pack_charsmap(replacements: dict[str, str]) -> bytes:
    """Return the table of some replacements, the inverse of `read_charsmap`.

    It is made for a few keys: each of their prefixes takes a kilobyte.
    """
    texts = b"".join(text.encode() + b"\0" for text in replacements.values())
    begins = np.cumsum([0, *[len(text.encode()) + 1 for text in replacements.values()]])
    keys = {key.encode(): int(begin) for key, begin in zip(replacements, begins, strict=False)}
    prefixes = sorted({key[:i] for key in keys for i in range(len(key) + 1)})
    block = {prefix: 1 + i for i, prefix in enumerate(prefixes)}
    units = np.zeros(256 * (len(prefixes) + 1), np.uint32)
    for prefix, number in block.items():
        place = 256 * block[prefix[:-1]] + prefix[-1] if prefix else 0
        # Children lie in the block: their distance is what turns this place into its base.
        distance = place ^ (256 * number)
        units[place] = (prefix[-1] if prefix else 0) | (prefix in keys) << 8 | distance << 10
        if prefix in keys:
            units[256 * number] = 0x80000000 | keys[prefix]
    return (4 * len(units)).to_bytes(4, "little") + units.astype("<u4").tobytes() + texts
