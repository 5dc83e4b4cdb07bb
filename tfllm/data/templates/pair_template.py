"""Examples that are a prompt and its completion."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tfllm.data.templates.example_template import ExampleTemplate, Question
from tfllm.data.templates.piece import Piece
from tfllm.data.templates.template import Template
from tfllm.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["PairTemplate"]

# What the functions of a generator take besides a prompt.
_TAKEN = frozenset({"max_new_tokens", "temperature", "top_k", "top_p", "seed", "stop"})


@dataclass(frozen=True)
class PairTemplate(ExampleTemplate):
    r"""A prompt that is read, and a completion that is learnt.

    A byte-level vocabulary joins a space to the word after it: begin the completion with the
    space, ` {summary}`, and end the prompt without one.

    Attributes:
        prompt: of the fields that a request holds.
        completion: of the fields to predict.

    Raises:
        InputError: if the prompt names no field, or one that no request can name; if the
            completion names none, or one of the prompt's.

    Example:
        prompt `{article}\nTL;DR:`, completion ` {summary}`.
    """

    kind: ClassVar[str] = "pair"

    prompt: Template
    completion: Template

    def __post_init__(self) -> None:
        """Check the fields."""
        for what, template in (("prompt", self.prompt), ("completion", self.completion)):
            if not template.fields:
                raise InputError(
                    f"the {what} template {template.text!r} names no field, so that all examples "
                    "were the same. Name one, such as {text}"
                )
        both = [name for name in self.completion.fields if name in self.prompt.fields]
        if both:
            raise InputError(
                f"the field {both[0]!r} stands in the prompt template {self.prompt.text!r} and in "
                f"the completion template {self.completion.text!r}: it would be given away. Name "
                "it in one of them"
            )
        if len(self.prompt.fields) > 1:
            self._check_inputs()

    def _check_inputs(self) -> None:
        """Refuse fields that can't be inputs of a bundle, which are a function's parameters."""
        seen: set[str] = set()
        for name in self.prompt.fields:
            reason = ""
            if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
                reason = "that is letters of a to z, digits and '_', a letter first"
            elif keyword.iskeyword(name) or name == "self":
                reason = "Python has that word for itself"
            elif name in _TAKEN:
                reason = "a bundle has a setting of that name"
            elif name.lower() in seen:
                reason = "another field has that name but for capitals"
            if reason:
                raise InputError(
                    f"the field {name!r} of the prompt template {self.prompt.text!r} would be the "
                    f"name of a bundle's input, and {reason}. Rename it"
                )
            seen.add(name.lower())

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PairTemplate:
        """Make one of what `to_config` gave."""
        return cls(*(Template.from_config(config[name]) for name in ("prompt", "completion")))

    def to_config(self) -> dict[str, Any]:
        """Give what JSON can hold of it."""
        parts = {"prompt": self.prompt.to_config(), "completion": self.completion.to_config()}
        return {"kind": self.kind, **parts}

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields of an example."""
        return self.prompt.fields + self.completion.fields

    @property
    def inputs(self) -> tuple[str, ...]:
        """`text` for a prompt of one field, else the fields' names."""
        return ("text",) if len(self.prompt.fields) == 1 else self.prompt.fields

    def request_of(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give a single field as `text` too; see `ExampleTemplate`."""
        (name, *others) = self.prompt.fields
        return given if others or name not in given else {"text": given[name], **given}

    def pieces(self, example: Mapping[str, Any]) -> list[Piece]:
        """Give prompt and completion."""
        return [
            Piece(self.prompt.fill(example), learnt=False),
            Piece(self.completion.fill(example), learnt=True),
        ]

    def questions(self, example: Mapping[str, Any]) -> list[Question]:
        """Give the one question that an example is."""
        prompt, completion = self.pieces(example)
        fields = {name: example[name] for name in self.prompt.fields}
        request = fields if len(fields) > 1 else fields[self.prompt.fields[0]]
        return [Question(prompt.text, completion.text.strip(), request)]

    def prompt_in_graph(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Fill the prompt; see `ExampleTemplate`."""
        fields = dict(zip(self.prompt.fields, (inputs[name] for name in self.inputs), strict=True))
        return self.prompt.fill_in_graph(fields)
