"""The template that a model was trained with, in the model's folder."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from tfllm.data.templates.dialogue_template import DialogueTemplate
from tfllm.data.templates.example_template import ExampleTemplate
from tfllm.data.templates.pair_template import PairTemplate
from tfllm.errors import InputError

__all__ = ["load_template", "save_template"]

_NAME = "template.json"
_KINDS: dict[str, type[PairTemplate] | type[DialogueTemplate]] = {
    template.kind: template for template in (PairTemplate, DialogueTemplate)
}


def save_template(folder: str | Path, template: ExampleTemplate) -> Path:
    """Write `template.json` into a model's folder, whole or not at all.

    Raises:
        InputError: if it can't be written.
    """
    path = Path(folder) / _NAME
    hidden = path.with_name(f".{_NAME}-{uuid.uuid4().hex[:8]}")
    text = json.dumps(template.to_config(), indent=2, ensure_ascii=False) + "\n"
    try:
        hidden.write_text(text, encoding="utf-8")
        hidden.rename(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        hidden.unlink(missing_ok=True)
    return path


def load_template(folder: str | Path) -> ExampleTemplate | None:
    """Read a folder's `template.json`; None where there is none.

    Raises:
        InputError: if it is no template.
    """
    path = Path(folder) / _NAME
    if not path.is_file():
        return None
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        kind = config["kind"]
        if kind not in _KINDS:
            known = " and ".join(map(repr, _KINDS))
            raise InputError(f"its kind is {kind!r}, and there are {known}")
        return _KINDS[kind].from_config(config)
    except KeyError as error:
        raise InputError(f"{path} can't be read as a template: it has no {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} can't be read as a template: {error}") from error
