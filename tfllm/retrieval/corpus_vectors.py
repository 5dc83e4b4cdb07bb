"""Vectors of a corpus's documents, made once for all who search it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfllm.retrieval.vector_file import write_vectors

__all__ = ["embed_corpus"]


def embed_corpus(
    path: str | Path, predictor: Any, batches: Any, *, width: int, digest: str
) -> np.ndarray:
    """Embed documents into a file, or open it where it is whole; see `write_vectors`.

    All who give the same file for the same documents, model and size of a batch share it.

    Args:
        path: of the `.npy` file; its folder is made.
        predictor: a `tfllm.training.RowPredictor` of a model with the output `vector`,
            `<float32>[rows, width]`.
        batches: `tfllm.data.RowBatches` of the documents, each once.
        width: numbers of a vector.
        digest: tells the model from others, as `tfllm.models.digest_of_model` does.

    Returns:
        the vectors `<float32>[documents, width]`, memory-mapped, in the order of the documents.

    Raises:
        InputError: if the file holds something else, or can't be written.
    """

    def steps(first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows, outputs in predictor.predict_steps(batches, first):
            yield rows, np.asarray(outputs["vector"])

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_vectors(
        path,
        steps,
        rows=len(batches.store),
        width=width,
        # Sums in a batch of another size differ in their last bits.
        identity=f"{batches.store.folder.name} {digest} {batches.plan.global_batch_size}",
    )
