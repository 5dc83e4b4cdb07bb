"""Take out documents that resemble one that stood before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step
from tfllm.data.cleaning.words import is_unspaced, units
from tfllm.data.readers.extras import import_extra

__all__ = ["NearDuplicates"]

_SEED = 1
# Signatures are compared after the tables have found candidates, so a missed pair costs more.
_WEIGHTS = (0.1, 0.9)


@dataclass(frozen=True)
class NearDuplicates(Step):
    """Keeps the first of documents whose sets of shingles overlap, with datasketch.

    A shingle is a run of words (in scripts without spaces, of twice as many characters), case
    folded. MinHash signatures estimate the sets' Jaccard similarity, with a standard error of
    √(s(1−s)/permutations), 0.035 at 0.8; tables of bands of signatures (LSH) find whom to compare
    with. So documents near the threshold fall on either side of it, but always on the same in
    every run. A pass remembers about 5 kB a kept document. Needs the extra `clean`.

    Attributes:
        threshold: the estimated similarity at which a document goes.
        shingle: words of a shingle.
        permutations: numbers of a signature.

    Reference:
        Broder, On the Resemblance and Containment of Documents, 1997; Lee et al., Deduplicating
        Training Data Makes Language Models Better, 2022 (2107.06499), with these defaults.
    """

    name: ClassVar[str] = "near_duplicates"

    threshold: float = 0.8
    shingle: int = 5
    permutations: int = 128

    def begin(self) -> Callable[[str], str | Removal]:
        """Begin without a memory.

        Raises:
            InputError: if datasketch is not installed.
        """
        datasketch = import_extra("datasketch", "clean", "finding near-duplicates")
        tables = datasketch.MinHashLSH(
            threshold=self.threshold, num_perm=self.permutations, weights=_WEIGHTS
        )
        blank = datasketch.MinHash(self.permutations, seed=_SEED, scheme="affine32")
        kept: list[np.ndarray] = []

        def judge(document: str) -> str | Removal:
            signature = blank.copy()
            signature.update_batch(_shingles(document, self.shingle))
            similar = _most_similar(signature, tables.query(signature), kept)
            if similar >= self.threshold:
                return Removal(f"{similar:.2f} like one that stood before")
            tables.insert(len(kept), signature, check_duplication=False)
            kept.append(signature.hashvalues)
            return document

        return judge


def _most_similar(signature: Any, candidates: list[int], kept: list[np.ndarray]) -> float:
    return max((float(np.mean(signature.hashvalues == kept[c])) for c in candidates), default=0.0)


def _shingles(document: str, length: int) -> list[bytes]:
    words = units(document.casefold())
    if 2 * sum(map(is_unspaced, words)) > len(words):
        length *= 2
    count = max(1, len(words) - length + 1)
    # A set has no order of its own that would be the same in every run; a list of it needs none,
    # since a signature takes minima.
    runs = {" ".join(words[i : i + length]) for i in range(count)}
    return [run.encode("utf-8", "surrogatepass") for run in runs]
