"""The files in which sentence-transformers says how a backbone's states become a vector.

```
modules.json                 the steps, in order: Transformer, Pooling, Normalize
1_Pooling/config.json        which pooling
sentence_bert_config.json    where texts are cut off
```
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tfllm.errors import InputError
from tfllm.layers.pooling import Pooling
from tfllm.models.checkpoint_files import find

__all__ = ["Modules", "read_modules", "write_modules"]

_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}
# Steps by the last part of their class's name.
_STEPS = ("Transformer", "Pooling", "Normalize")
_PREFIX = "sentence_transformers.models."


class Modules(NamedTuple):
    """What the files say; None where they say nothing."""

    pooling: Pooling | None
    normalise: bool | None


def read_modules(name_or_folder: str | Path) -> Modules:
    """Read how vectors are made; without such files, nothing is said.

    Raises:
        InputError: if a file can't be read, or asks for a step or a pooling that is not done here.
    """
    path = find(name_or_folder, "modules.json")
    if path is None:
        pooling = find(name_or_folder, "1_Pooling/config.json")
        return Modules(None if pooling is None else _pooling_of(pooling), None)
    steps = {}
    for step in _read(path, list):
        name = str(step.get("type", "")).rpartition(".")[2]
        if name not in _STEPS:
            raise InputError(
                f"{path} asks for the step {step.get('type')!r}, which is not done here. Known "
                f"are {', '.join(_STEPS)}"
            )
        steps[name] = str(step.get("path", ""))
    pooling = None
    if "Pooling" in steps:
        pooling = find(name_or_folder, f"{steps['Pooling']}/config.json")
        if pooling is None:
            raise InputError(f"{path} names {steps['Pooling']}/config.json, which is not there")
    return Modules(None if pooling is None else _pooling_of(pooling), "Normalize" in steps)


def _pooling_of(path: Path) -> Pooling:
    config = _read(path, dict)
    asked = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    if len(asked) != 1 or asked[0] not in _POOLINGS:
        raise InputError(
            f"{path} asks for {' and '.join(asked) or 'no pooling'}. Just one of "
            f"{', '.join(_POOLINGS)} is done here"
        )
    return _POOLINGS[asked[0]]


def _read(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(content, kind):
        raise InputError(f"{path} must hold a {kind.__name__}. Received: {type(content).__name__}")
    return content


def write_modules(
    folder: Path, *, pooling: Pooling, normalise: bool, hidden_dim: int, sequence_length: int
) -> None:
    """Write the files into a folder that holds a backbone."""
    steps = [("Transformer", ""), ("Pooling", "1_Pooling")]
    if normalise:
        steps.append(("Normalize", "2_Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{_PREFIX}{name}"}
        for i, (name, path) in enumerate(steps)
    ]
    # Older versions refuse the key of the last token.
    modes = {
        key: mode == pooling for key, mode in _POOLINGS.items() if mode == pooling or mode != "last"
    }
    limit = None if sequence_length == sys.maxsize else sequence_length
    (folder / "1_Pooling").mkdir()
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden_dim, **modes})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
