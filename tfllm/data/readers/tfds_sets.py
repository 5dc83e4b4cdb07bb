"""Data sets that TFDS has prepared on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from tfllm.data.readers.bad_row import BadRow
from tfllm.data.readers.field import Fields, as_fields, shorten, take_fields
from tfllm.data.readers.reader import Located, Reader
from tfllm.errors import InputError

__all__ = ["Tfds", "split_tfds_name"]

_PREFIX = "tfds:"


def split_tfds_name(source: str, default_split: str) -> tuple[str, str]:
    """Part `tfds:name/config@split` into the data set's name and the split.

    Args:
        source: as somebody wrote it; the split may be left out, or be TFDS's slices,
            `train[:90%]`.
        default_split: the split where it is left out.
    """
    name, _, split = source.removeprefix(_PREFIX).partition("@")
    return name, split or default_split


@dataclass(frozen=True)
class Tfds(Reader):
    """Examples of a TFDS data set, in its own order, from the files that TFDS has prepared.

    Nothing is downloaded, and no code of the data set runs: only `tfds build`, run once where
    there is a network, does either. Text comes as str, class labels as their names, numbers as
    Python's; a label of -1, which TFDS writes where there is none, is null.

    Attributes:
        dataset: `name`, `name/config` or `name/config:version`, with or without `tfds:`.
        fields: name in the example → feature, or a `Field` where it is no text.
        split: TFDS's name or slice, `train`, `train[:90%]`.
        data_dir: where TFDS keeps its data sets; None for `$TFDS_DATA_DIR` or its default.
    """

    dataset: str
    fields: Fields
    split: str = "train"
    data_dir: str | Path | None = None

    _places: ClassVar[frozenset[str]] = frozenset({"data_dir"})

    def __post_init__(self) -> None:
        """Find the data set.

        Raises:
            InputError: if it is not prepared, or has no such split or feature.
        """
        super().__post_init__()
        self._check_split()
        features = self._builder.info.features
        for field in as_fields(self.fields).values():
            if field.key not in features and field.default is None:
                listed = shorten(", ".join(repr(name) for name in sorted(features)), 200)
                raise InputError(
                    f"{_PREFIX}{self.dataset} has no feature {field.key!r}. Name one of: {listed}"
                )

    @property
    def name(self) -> str:
        """The data set's name and configuration."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.dataset.removeprefix(_PREFIX)).strip("-.")

    def located(self) -> Iterator[Located]:
        """Yield examples, and ones that are not as asked, in the data set's order."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        fields = as_fields(self.fields)
        features = self._builder.info.features
        kept = {field.key for field in fields.values()} & set(features)
        # One file after the other: read at once, they would come interleaved.
        in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        records = self._builder.as_dataset(
            split=self.split, shuffle_files=False, read_config=in_order
        )
        source = f"{_PREFIX}{self._builder.info.full_name}@{self.split}"
        try:
            for number, record in enumerate(tfds.as_numpy(records), 1):
                try:
                    row = {key: _plain(features[key], record[key], key) for key in sorted(kept)}
                    yield source, number, take_fields(row, fields)
                except ValueError as error:
                    yield source, number, BadRow(source, number, str(error))
        except tf.errors.OpError as error:
            raise InputError(
                f"{source} can't be read: {shorten(error.message, 160)}. Prepare it again with "
                "tfds build --overwrite"
            ) from error

    def text_features(self) -> list[str]:
        """Name the features that are text."""
        features = self._builder.info.features
        return [name for name in sorted(features) if type(features[name]).__name__ == "Text"]

    @cached_property
    def _builder(self) -> Any:
        from tensorflow_datasets.core import read_only_builder

        name = self.dataset.removeprefix(_PREFIX)
        where = self.data_dir or os.environ.get("TFDS_DATA_DIR")
        try:
            return read_only_builder.builder_from_files(
                name, **({"data_dir": where} if where else {})
            )
        except (ValueError, OSError) as error:
            reason = shorten(str(error).split("\n")[0].split(".")[0], 120)
            folder = f" in {where}" if where else ""
            flag = f" --data_dir={where}" if where else ""
            raise InputError(
                f"{_PREFIX}{name} is not prepared{folder} ({reason}), and nothing is downloaded "
                f"unasked. Prepare it once with: tfds build {name}{flag}"
            ) from error

    def _find(self) -> list[Path]:
        folder = Path(str(self._builder.data_dir))
        return sorted(path for path in folder.iterdir() if path.is_file())

    def _check_split(self) -> None:
        try:
            _ = self._builder.info.splits[self.split]
        except (KeyError, ValueError) as error:
            there = ", ".join(sorted(self._builder.info.splits))
            raise InputError(
                f"{_PREFIX}{self.dataset} has no split {self.split!r}. Give one of: {there}, or a "
                f"slice, as in {_PREFIX}{self.dataset.removeprefix(_PREFIX)}@train[:90%]"
            ) from error


def _plain(feature: Any, value: Any, key: str) -> Any:
    """Turn what TFDS gives for a feature into plain Python.

    Raises:
        ValueError: with the reason, if bytes are not UTF-8 or the feature is no text or number.
    """
    kind = type(feature).__name__
    if isinstance(value, Mapping):
        inner = getattr(feature, "feature", feature)
        listed = hasattr(feature, "feature")
        return {
            name: _plain_list(inner[name], part, key) if listed else _plain(inner[name], part, key)
            for name, part in value.items()
        }
    if hasattr(feature, "feature"):
        return _plain_list(feature.feature, value, key)
    if kind == "ClassLabel":
        return feature.int2str(int(value)) if value >= 0 else None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"feature {key!r} is not UTF-8 at byte {error.start}") from None
    if not hasattr(value, "tolist"):
        raise ValueError(f"feature {key!r} is of a kind that can't be read, {kind}")
    return value.tolist()


def _plain_list(feature: Any, values: Any, key: str) -> list[Any]:
    if not hasattr(values, "tolist"):
        raise ValueError(f"feature {key!r} holds lists of lists, which can't be read")
    return [_plain(feature, value, key) for value in values]
