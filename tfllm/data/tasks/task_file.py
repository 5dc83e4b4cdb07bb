"""The tasks that a TOML file lists."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_args

from tfllm.data.readers.iob2 import TagScheme
from tfllm.data.tasks.answer_spec import AnswerSpec
from tfllm.data.tasks.tag_spec import TagSpec
from tfllm.data.tasks.task_spec import TaskSpec
from tfllm.data.tasks.text_spec import TextSpec
from tfllm.data.tasks.toml_lines import KeyPath, toml_lines
from tfllm.data.text_files import find_files
from tfllm.errors import InputError

__all__ = ["read_task_file", "showcase_tasks"]


class _Rule(NamedTuple):
    """What a key's value must be: in words, and whether one is."""

    words: str
    holds: Callable[[Any], bool]


class _Kind(NamedTuple):
    """How a kind is read: its class, and its own keys with what their values must be."""

    spec: type[TaskSpec]
    keys: dict[str, _Rule]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and 0 < value < 1e9


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(one, str) for one in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _are_paths(value: Any) -> bool:
    return _is_text(value) or (_is_list(value) and "" not in value)


_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
_SCHEMES = get_args(TagScheme)

_TEXT = _Rule("text in quotes", _is_text)
_FLAG = _Rule("true or false", lambda value: isinstance(value, bool))
_NUMBER = _Rule("a number above 0 and below 1e9", _is_number)
_COLUMN = _Rule("a whole number", _is_whole)
_COUNT = _Rule("a whole number of 0 or more", lambda value: _is_whole(value) and value >= 0)
_LEAST_ONE = _Rule("a whole number above 0", lambda value: _is_whole(value) and value >= 1)
_LIST = _Rule("a list of texts in quotes", _is_list)
_PATHS = _Rule("a path in quotes, or a list of them", _are_paths)
_NAME = _Rule(
    "a name of letters, digits, _ and -, which begins with a letter and has at most 100", _is_name
)
_SCHEME = _Rule(
    f"one of {', '.join(_SCHEMES)}", lambda value: isinstance(value, str) and value in _SCHEMES
)

_COMMON = {"name": _NAME, "kind": _TEXT, "weight": _NUMBER, "freeze_backbone": _FLAG}
_PARTS = {"train": _PATHS, "validation": _PATHS, "test": _PATHS}
_TEXTS = {"text": _TEXT, "text_pair": _TEXT, "label": _TEXT, "columns": _LIST}
_TAGS = {
    "tokens": _TEXT,
    "tags": _TEXT,
    "token_column": _COLUMN,
    "tag_column": _COLUMN,
    "positions_in_tokens": _FLAG,
    "crf": _FLAG,
    "overlap": _COUNT,
}
_ANSWERS = {"max_question_tokens": _LEAST_ONE, "max_answer_tokens": _LEAST_ONE, "overlap": _COUNT}
_KINDS = {
    "single_label": _Kind(TextSpec, _TEXTS),
    "multi_label": _Kind(TextSpec, _TEXTS),
    "regression": _Kind(TextSpec, _TEXTS),
    "entities": _Kind(TagSpec, _TAGS | {"scheme": _SCHEME}),
    "tags": _Kind(TagSpec, _TAGS),
    "answers": _Kind(AnswerSpec, _ANSWERS),
}
_REQUIRED = ("name", "kind", "train")
_AT_LINE = re.compile(r"(.*) \(at line (\d+), column \d+\)", re.DOTALL)


def read_task_file(path: str | Path) -> tuple[TaskSpec, ...]:
    """Read a list of tasks.

    ```toml
    [[task]]
    name = "sentiment"
    kind = "single_label"          # multi_label, regression, entities, tags, answers
    train = "sst2/train.tsv"       # a path, a glob, or a list of them; from this file's folder
    validation = "sst2/dev.tsv"
    text = "sentence"
    weight = 2                     # of its steps, with --mixing weights
    freeze_backbone = true         # the blocks learn from other tasks
    ```

    Which keys a kind has besides `name`, `kind`, `train`, `validation`, `test`, `weight` and
    `freeze_backbone`, its class says: `TextSpec`, `TagSpec` and `AnswerSpec`.

    Args:
        path: of the file.

    Returns:
        the tasks in the file's order.

    Raises:
        InputError: with file and line, if it is no TOML, a key is unknown, missing or of another
            type, a kind or a file does not exist, or two tasks have one name.
    """
    path = Path(path)
    text = _text_of(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(_no_toml(path, text, str(error))) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep"
        if isinstance(error, ValueError):
            reason = "a number in it has too many digits"
        raise InputError(f"{path}:{_line_of(text, type(error))} can't be read: {reason}") from None
    lines = toml_lines(text)
    tables = _tables(path, values, lines)
    specs: dict[str, TaskSpec] = {}
    for number, table in enumerate(tables):
        spec = _Table(path, number, table, lines).spec()
        if spec.name in specs:
            raise InputError(
                f"{path}:{lines['task', number, 'name']} the name {spec.name!r} is taken by the "
                f"task at {specs[spec.name].where}. Give each task a name of its own"
            )
        specs[spec.name] = spec
    return tuple(specs.values())


def showcase_tasks() -> tuple[TaskSpec, ...]:
    """Three tasks on the sentences that tfllm brings, for who lists none."""
    return (
        TextSpec("sentiment", "single_label"),
        TagSpec("entities", "entities", crf=True),
        AnswerSpec("answers", "answers"),
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"--tasks {path} can't be read: {error.strerror or error}. Give a TOML file"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"--tasks {path} is no TOML: byte 0x{error.object[error.start]:02x} at offset "
            f"{error.start} is not UTF-8"
        ) from None


def _no_toml(path: Path, text: str, message: str) -> str:
    found = _AT_LINE.fullmatch(message)
    reason, line = (found[1], int(found[2])) if found else (message, text.count("\n") + 1)
    shown = text.split("\n")[line - 1].strip()
    return f"{path}:{line} is no TOML: {reason}. Received: {shown!r:.80}"


def _line_of(text: str, error: type[Exception]) -> int:
    """Find the first line that can't be read for a reason which `tomllib` gives no line."""
    lines = text.split("\n")
    for end in range(1, len(lines)):
        try:
            tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        except error:
            return end
    return len(lines)


def _tables(
    path: Path, values: Mapping[str, Any], lines: Mapping[KeyPath, int]
) -> list[dict[str, Any]]:
    for key in values:
        if key != "task":
            raise InputError(
                f"{path}:{lines[key,]} has the unknown key {key!r}. A list of tasks knows [[task]] "
                "alone"
            )
    tables = values.get("task")
    if not tables:
        raise InputError(f"{path} lists no tasks. Begin each with a line [[task]]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(
            f"{path}:{lines['task',]} task must be a list of tables. Begin each with [[task]], in "
            "two pairs of brackets"
        )
    return tables


@dataclass(frozen=True)
class _Table:
    """One `[[task]]`."""

    path: Path
    number: int
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    def spec(self) -> TaskSpec:
        """Check all keys, and make the task of them."""
        for key in _REQUIRED[:2]:
            self._require(key)
        kind_name, name = self.values["kind"], self.values["name"]
        if not isinstance(kind_name, str) or kind_name not in _KINDS:
            self._refuse("kind", f"must be one of {', '.join(_KINDS)}. Received: {kind_name!r}")
        kind = _KINDS[kind_name]
        known = _COMMON | _PARTS | kind.keys
        for key in self.values:
            if key not in known:
                self._refuse_unknown(key, kind_name, list(known))
        taken = {key: self._checked(key, known[key]) for key in self.values}
        self._require("train")
        if name == "serving_default":
            self._refuse("name", "must not be serving_default, which all bundles have")
        taken |= {key: self._found(key, taken[key]) for key in _PARTS if key in taken}
        return kind.spec(**taken, where=self._place())

    def _require(self, key: str) -> None:
        if key not in self.values:
            raise InputError(
                f"{self._place()} a task lacks the key {key!r}. Each needs {', '.join(_REQUIRED)}"
            )

    def _refuse_unknown(self, key: str, kind: str, known: list[str]) -> NoReturn:
        near = difflib.get_close_matches(key, known, 1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"{self._place(key)} has the unknown key {key!r}. {meant}A task of kind {kind} knows: "
            f"{', '.join(known)}"
        )

    def _refuse(self, key: str, message: str) -> NoReturn:
        raise InputError(f"{self._place(key)} {key} {message}")

    def _checked(self, key: str, rule: _Rule) -> Any:
        value = self.values[key]
        if not rule.holds(value):
            self._refuse(key, f"must be {rule.words}. Received: {value!r}")
        return tuple(value) if isinstance(value, list) else value

    def _found(self, key: str, value: str | tuple[str, ...]) -> tuple[str, ...]:
        """Resolve paths from the file's folder, and see that they are there."""
        patterns = tuple(
            pattern if pattern.startswith("tfds:") else str(self.path.parent / pattern)
            for pattern in ((value,) if isinstance(value, str) else value)
        )
        if not (len(patterns) == 1 and patterns[0].startswith("tfds:")):
            find_files(patterns, f"{self._place(key)} {key}")
        return patterns

    def _place(self, key: str | None = None) -> str:
        path: KeyPath = ("task", self.number) if key is None else ("task", self.number, key)
        return f"{self.path}:{self.lines[path]}"
