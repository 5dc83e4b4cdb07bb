"""An index of FAISS for corpora that outgrow an exact search."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tfllm.errors import InputError

__all__ = ["FaissIndex", "FaissKind"]

FaissKind = Literal["flat", "hnsw", "ivf"]
_BLOCK = 65_536
_NEIGHBOURS, _EXPLORED = 32, 128
_TRAINED_PER_CELL = 64


class FaissIndex:
    """Documents by the dot product of their vectors with a query's.

    `flat` is exact. `hnsw` walks a graph with 32 links a document: quick, and nearly always right.
    `ivf` looks only into the cells that are nearest to the query.

    Reference:
        Douze et al., The Faiss library, 2024, arXiv:2401.08281. Malkov and Yashunin, HNSW, 2016,
        arXiv:1603.09320.
    """

    def __init__(self, index: Any) -> None:
        """Take an index of FAISS, as it is; see `build` and `load`."""
        self._index = index

    @classmethod
    def build(cls, vectors: np.ndarray, kind: FaissKind = "flat") -> FaissIndex:
        """Index vectors, a block at a time.

        Args:
            vectors: `<float32>[documents, width]`, memory-mapped or not.
            kind: see the class.

        Raises:
            InputError: if FAISS is not installed, there is no such kind, or there are no vectors.
        """
        faiss = _faiss()
        if kind not in get_args(FaissKind):
            kinds = ", ".join(get_args(FaissKind))
            raise InputError(f"the kind of a FAISS index must be one of {kinds}. Received: {kind}")
        if not len(vectors):
            raise InputError("there are no vectors to index. Give a corpus with documents")
        count, width = vectors.shape
        if kind == "flat":
            index = faiss.IndexFlatIP(width)
        elif kind == "hnsw":
            index = faiss.IndexHNSWFlat(width, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = index.hnsw.efSearch = _EXPLORED
        else:
            cells = max(1, math.isqrt(count))
            index = faiss.IndexIVFFlat(
                faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT
            )
            index.nprobe = max(1, cells // 16)
            rows = np.linspace(0, count - 1, min(count, cells * _TRAINED_PER_CELL)).astype(np.int64)
            index.train(np.ascontiguousarray(vectors[rows], np.float32))
        for first in range(0, count, _BLOCK):
            index.add(np.ascontiguousarray(vectors[first : first + _BLOCK], np.float32))
        return cls(index)

    @classmethod
    def load(cls, path: str | Path) -> FaissIndex:
        """Read an index.

        Raises:
            InputError: if FAISS is not installed, or the file is none of its indexes.
        """
        try:
            return cls(_faiss().read_index(str(path)))
        except RuntimeError as error:
            raise InputError(f"{path} can't be read as an index of FAISS. Build it anew") from error

    def save(self, path: str | Path) -> None:
        """Write it, whole or not at all; an index that is there is replaced.

        Raises:
            InputError: if it can't be written.
        """
        path = Path(path)
        hidden = path.with_name(f".{path.name}.part")
        try:
            _faiss().write_index(self._index, str(hidden))
            hidden.rename(path)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path} can't be written: {error}") from error

    def __len__(self) -> int:
        """Count the documents."""
        return int(self._index.ntotal)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k documents with the largest dot products.

        Args:
            queries: `<float32>[queries, width]`.
            k: at most the number of documents.

        Returns:
            places `<int64>[queries, k]`, best first (-1 where an inexact index found fewer), and
            scores `<float32>[queries, k]`.
        """
        scores, places = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        return places, scores


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError(
            "an index of FAISS needs faiss-cpu. Install it: pip install 'tfllm[faiss]'"
        ) from None
    return faiss
