"""Vectors with names, as TensorBoard's projector shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfllm.errors import InputError

__all__ = ["write_projector"]

_SHOWN_CHARACTERS = 200


def write_projector(
    folder: Path, vectors: np.ndarray, columns: Mapping[str, Sequence[str]]
) -> None:
    """Write vectors and what they are of; what was there is replaced.

    The files are `vectors.tsv`, `metadata.tsv` and `projector_config.pbtxt`, which names them.

    Args:
        folder: one of TensorBoard's runs.
        vectors: `<float>[points, width]`.
        columns: two or more: name → a text for each point, which people can colour and search by.

    Raises:
        InputError: if the files can't be written.
    """
    from tensorboard.plugins import projector

    rows = zip(*([_cell(text) for text in column] for column in columns.values()), strict=True)
    config = projector.ProjectorConfig()
    shown = config.embeddings.add()
    shown.tensor_name = "vectors"
    shown.tensor_path, shown.metadata_path = "vectors.tsv", "metadata.tsv"
    shown.tensor_shape.extend(vectors.shape)
    numbers = (map("{:.6g}".format, vector) for vector in vectors)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / shown.metadata_path, [list(columns), *rows])
        _write(folder / shown.tensor_path, numbers)
        projector.visualize_embeddings(str(folder), config)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error


def _cell(text: str) -> str:
    return " ".join(text.split())[:_SHOWN_CHARACTERS]


def _write(path: Path, rows: Iterable[Iterable[str]]) -> None:
    hidden = path.with_name(f".{path.name}.writing")
    with hidden.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write("\t".join(row) + "\n")
    hidden.replace(path)
